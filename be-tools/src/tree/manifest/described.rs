//! Entries that are not those of a tree.

use rustix::fs::FileType;

use super::content::Hash;
use super::entry::{Content, Entry, Manifest, hash_of};
use crate::timestamp::Timestamp;
use crate::tree::xattr::Xattr;

/// In the place of the hash of extended attributes that are not known.
pub(super) const UNKNOWN_XATTRS: Option<[u8; 16]> = Some([0; 16]);

/// An entry as an archive describes it.
#[derive(Clone, Debug)]
pub struct Described {
    /// From the root of the tree, with a slash first.
    pub path: Vec<u8>,
    /// Its type.
    pub kind: FileType,
    /// The permissions, at most 0o7777.
    pub mode: u32,
    /// The numbers of its owner and group.
    pub owner: (u32, u32),
    /// The size of a file in bytes.
    pub size: u64,
    /// When its content was last changed.
    pub modified: Timestamp,
    /// What a symlink names.
    pub target: Option<Vec<u8>>,
    /// The major and minor number of a device.
    pub device: (u32, u32),
    /// The BLAKE3 of the content of a file, if it is known.
    pub hash: Option<[u8; 32]>,
    /// Its extended attributes, sorted by name; `None` if they are not known.
    pub xattrs: Option<Vec<Xattr>>,
}

impl Manifest {
    /// The manifest of these entries.
    pub fn of_archive(entries: impl Iterator<Item = Described>) -> Self {
        Manifest::new(entries.map(Entry::from).collect())
    }
}

impl From<Described> for Entry {
    fn from(found: Described) -> Self {
        let content = match found.kind {
            FileType::Symlink => Content::Target(found.target.unwrap_or_default().into()),
            FileType::BlockDevice | FileType::CharacterDevice => {
                Content::Device(found.device.0, found.device.1)
            }
            _ => found.hash.map_or(Content::Unknown, |hash| Content::Hash(Hash::Whole(hash))),
        };
        Entry {
            path: found.path.into(),
            kind: found.kind,
            mode: found.mode,
            owner: found.owner,
            size: found.size,
            modified: found.modified,
            changed: Timestamp::new(0, 0),
            inode: 0,
            content,
            xattrs: found.xattrs.map_or(UNKNOWN_XATTRS, |xattrs| hash_of(&xattrs)),
        }
    }
}
