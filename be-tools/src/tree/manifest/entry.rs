//! What a manifest knows.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat, fstat};
use rustix::io::Errno;

use super::content::{From, Hash, Reader};
use crate::timestamp::Timestamp;
use crate::tree::listing::Listed;
use crate::tree::xattr::Xattr;

/// The longest path of an entry, in bytes. A program can make longer ones, which no other program
/// can name.
pub const MAX_PATH: usize = 4096;

/// What a tree holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Sorted by directory, then by name.
    pub(super) entries: Vec<Entry>,
}

/// What is known of one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// From the root of the tree, with a slash first.
    pub(super) path: Box<[u8]>,
    /// Its type.
    pub(super) kind: FileType,
    /// The permissions, at most 0o7777.
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    /// In bytes; that of directories and devices is 0.
    pub(super) size: u64,
    pub(super) modified: Timestamp,
    /// When its inode was last changed. The kernel sets it at every change; no program can.
    pub(super) changed: Timestamp,
    pub(super) inode: u64,
    pub(super) content: Content,
    /// A hash of the extended attributes, if there are any.
    pub(super) xattrs: Option<[u8; 16]>,
}

/// What an entry holds, or points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// It has none, or it was not read.
    Unknown,
    /// The content of a file.
    Hash(Hash),
    /// The target of a symlink.
    Target(Box<[u8]>),
    /// The major and minor number of a device.
    Device(u32, u32),
}

impl Manifest {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_unstable_by(|a, b| a.place().cmp(&b.place()));
        // A path that is there twice was not written by record().
        entries.dedup_by(|later, first| later.path == first.path);
        Manifest { entries }
    }

    /// Replaces what is known of these paths, and below them, by what `old` knows.
    pub fn keep_of(&mut self, old: &Manifest, paths: &[PathBuf]) {
        let paths: HashSet<&Path> = paths.iter().map(PathBuf::as_path).collect();
        let is_kept = |entry: &Entry| entry.path().ancestors().any(|above| paths.contains(above));
        self.entries.retain(|entry| !is_kept(entry));
        self.entries.extend(old.entries.iter().filter(|entry| is_kept(entry)).cloned());
        *self = Manifest::new(std::mem::take(&mut self.entries));
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entries of the directory with this path, sorted by name.
    pub(super) fn in_directory(&self, path: &[u8]) -> &[Entry] {
        let from = self.entries.partition_point(|entry| entry.place().0 < path);
        let count = self.entries[from..].partition_point(|entry| entry.place().0 == path);
        &self.entries[from..from + count]
    }

    /// What is known below a directory, at any depth.
    pub fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.path().starts_with(path) && entry.path() != path)
    }

    /// What is known of the entry with this path.
    pub fn entry(&self, path: &Path) -> Option<&Entry> {
        let wanted = place(path.as_os_str().as_bytes());
        let index = self.entries.binary_search_by(|entry| entry.place().cmp(&wanted)).ok()?;
        Some(&self.entries[index])
    }
}

impl Entry {
    /// What was listed, without its content.
    pub(super) fn of(path: Vec<u8>, listed: &Listed) -> Self {
        let (stat, kind) = (&listed.stat, listed.kind());
        let content = match kind {
            FileType::BlockDevice | FileType::CharacterDevice => {
                Content::Device(rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev))
            }
            _ => Content::Unknown,
        };
        let size = match kind {
            FileType::RegularFile | FileType::Symlink => u64::try_from(stat.st_size).unwrap_or(0),
            _ => 0,
        };
        Entry {
            path: path.into(),
            kind,
            mode: stat.st_mode & 0o7777,
            owner: (stat.st_uid, stat.st_gid),
            size,
            modified: Timestamp::of_modification(stat),
            changed: Timestamp::of(stat),
            inode: stat.st_ino,
            content,
            xattrs: hash_of(&listed.xattrs),
        }
    }

    /// Its path, from the root of the tree, with a slash first.
    pub fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// Whether it is a file whose content is known.
    pub fn has_hash(&self) -> bool {
        self.hash().is_some()
    }

    /// Whether an open file has the size of this entry, and whether it also has its modification
    /// time.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn resembles(&self, file: &File) -> Result<(bool, bool), Errno> {
        let stat = fstat(file)?;
        let is_size = u64::try_from(stat.st_size).is_ok_and(|size| size == self.size);
        Ok((is_size, is_size && Timestamp::of_modification(&stat) == self.modified))
    }

    /// Whether both are names of one file.
    pub fn is_same_file(&self, other: &Entry) -> bool {
        (self.inode, self.changed, self.size, &self.content)
            == (other.inode, other.changed, other.size, &other.content)
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }

    /// Whether the content of an open file is that of this entry.
    ///
    /// # Errors
    /// As read(2), and `INTR` after an interruption.
    pub fn proves(&self, file: &File) -> Result<bool, Errno> {
        let Some(known) = self.hash() else { return Ok(false) };
        let size = u64::try_from(fstat(file)?.st_size).unwrap_or(0);
        let mut reader = Reader { from: From::Anywhere, buffer: Vec::new(), read: &|_| {} };
        let found = known.kind().hash(file, &mut reader)?.ok_or(Errno::INTR)?;
        Ok((size, found) == (self.size, known))
    }

    /// The size of a file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether these bytes are the content of this entry. A sparse file is not compared.
    pub fn is_content(&self, bytes: &[u8]) -> bool {
        self.hash() == Some(Hash::Whole(*blake3::hash(bytes).as_bytes()))
    }

    /// The hash of the content, if it is a file whose content is known.
    pub(super) fn hash(&self) -> Option<Hash> {
        match self.content {
            Content::Hash(hash) => Some(hash),
            _ => None,
        }
    }

    /// The directory that holds it, and its name.
    pub(super) fn place(&self) -> (&[u8], &[u8]) {
        place(&self.path)
    }

    /// Whether nothing has been written to the inode since: then content that differs was changed
    /// by a fault of the device, or past the file system.
    pub(super) fn is_same_inode(&self, stat: &Stat) -> bool {
        self.inode == stat.st_ino && self.changed == Timestamp::of(stat)
    }

    /// Whether no program can have changed the open file or `O_PATH` descriptor of this entry since
    /// it was recorded.
    ///
    /// # Errors
    /// As fstat(2).
    pub fn is_unchanged(&self, file: impl AsFd) -> Result<bool, Errno> {
        let stat = fstat(&file)?;
        Ok(self.is_same(&stat, is_fat(&file)))
    }

    /// The same of an inode in this state. Those of a FAT are made anew at each mount.
    pub(super) fn is_same(&self, stat: &Stat, is_fat: bool) -> bool {
        match is_fat {
            true => self.modified == Timestamp::of_modification(stat),
            false => self.is_same_inode(stat),
        }
    }
}

/// Whether a file or directory is on a FAT file system, which has no inodes: the kernel makes them
/// when it is mounted.
pub(super) fn is_fat(file: impl AsFd) -> bool {
    /// MSDOS_SUPER_MAGIC of statfs(2).
    const FAT: i64 = 0x4d44;
    rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type == FAT)
}

/// The path of a directory, which ends with a slash only if it is the root, and a name in it.
fn place(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"/", path),
    }
}

pub(super) fn hash_of(xattrs: &[Xattr]) -> Option<[u8; 16]> {
    if xattrs.is_empty() {
        return None;
    }
    let mut hasher = blake3::Hasher::new();
    for (name, value) in xattrs {
        for part in [name.to_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
        }
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Some(hash)
}
