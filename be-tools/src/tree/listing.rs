//! The entries of a directory with their state, for a walk that looks at every inode.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, RawDir, ResolveFlags, Stat, openat2, statat,
};
use rustix::io::Errno;

use super::exclude::{Exclude, Verdict};
use super::working_directory::WorkingDirectory;
use super::xattr::{Xattr, xattrs_in_working_directory};
use crate::error::{Doing, Result};
use crate::root_dir::open_entry;

/// Threads of a walk that looks at every inode: enough to use the processors while some wait for
/// the disk.
pub(super) const THREADS: usize = 4;

/// Size of the buffer for getdents64(2), in bytes.
const LISTING: usize = 64 * 1024;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A tree whose inodes are looked at.
#[derive(Debug)]
pub struct Tree {
    /// Its root.
    pub root: OwnedFd,
    /// Whether what is mounted in it belongs to it.
    pub with_mounts: bool,
}

/// An entry of a directory, as it was read.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) name: CString,
    pub(super) stat: Stat,
    pub(super) xattrs: Vec<Xattr>,
}

/// A directory as a walk reaches it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// From the root of the tree, with a slash first.
    pub(super) path: &'a [u8],
    /// What the rules say of it.
    pub(super) verdict: Verdict,
}

impl Tree {
    /// Opens the root of a tree.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path, with_mounts: bool) -> Result<Self> {
        Ok(Tree { root: super::open::open_root(path)?, with_mounts })
    }

    /// Opens the root for a walk, which changes its position.
    pub(super) fn start(&self) -> Result<Arc<OwnedFd>> {
        let root = rustix::fs::openat(&self.root, c".", DIRECTORY, Mode::empty());
        root.map(Arc::new).doing(|| "opening the root of a tree".into())
    }

    /// Opens a directory in another one of the tree; `XDEV` if something else is mounted there and
    /// that does not belong to the tree.
    pub(super) fn open_directory(&self, above: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
        let own = if self.with_mounts { ResolveFlags::empty() } else { ResolveFlags::NO_XDEV };
        openat2(above, name, DIRECTORY, Mode::empty(), own | ResolveFlags::NO_MAGICLINKS)
    }
}

impl Listed {
    /// Reads the state of an entry of the thread's working directory.
    fn read(name: CString) -> Result<Self, (CString, Errno)> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let read = statat(CWD, &*name, flags)
            .and_then(|stat| xattrs_in_working_directory(&name).map(|xattrs| (stat, xattrs)));
        match read {
            Ok((stat, xattrs)) => Ok(Listed { name, stat, xattrs }),
            Err(why) => Err((name, why)),
        }
    }

    pub(super) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// The entries of a directory that the rules do not leave out, sorted by name. `unread` is called
/// with the path of one that cannot be read.
///
/// # Errors
/// As getdents64(2).
pub(super) fn list(
    directory: &OwnedFd,
    place: Place<'_>,
    rules: &Exclude,
    here: &mut WorkingDirectory,
    unread: &mut dyn FnMut(&[u8], Errno),
) -> Result<Vec<Listed>, Errno> {
    let mut names = Vec::new();
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); LISTING];
    let mut listing = RawDir::new(directory, &mut buffer);
    while let Some(entry) = listing.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            entry => entry?,
        };
        let name = entry.file_name();
        let is_left_out = matches!(name.to_bytes(), b"." | b"..")
            || place.path == b"/" && name.to_bytes() == b"lost+found";
        if is_left_out {
            continue;
        }
        let verdict = rules.verdict(&joined(place.path, name), place.verdict);
        if !matches!(verdict, Verdict::Skip) {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    here.change_to(directory)?;
    let mut entries = Vec::with_capacity(names.len());
    for name in names {
        match Listed::read(name) {
            Ok(entry) => entries.push(entry),
            // It was removed since it was listed.
            Err((_, Errno::NOENT)) => {}
            Err((name, why)) => unread(&joined(place.path, &name), why),
        }
    }
    Ok(entries)
}

/// Opens a regular file.
pub(super) fn open_file(directory: &OwnedFd, name: &CStr) -> Result<File, Errno> {
    open_entry(directory, OsStr::from_bytes(name.to_bytes())).map(File::from)
}

/// The path of an entry of the directory with this path.
pub(super) fn joined(path: &[u8], name: &CStr) -> Vec<u8> {
    let mut joined = path.to_vec();
    if !joined.ends_with(b"/") {
        joined.push(b'/');
    }
    joined.extend_from_slice(name.to_bytes());
    joined
}

/// The name of a type, for people.
pub fn kind_name(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "symlink",
        FileType::Fifo => "fifo",
        FileType::Socket => "socket",
        FileType::CharacterDevice => "character device",
        FileType::BlockDevice => "block device",
        FileType::Unknown => "unknown",
    }
}
