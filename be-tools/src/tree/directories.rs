//! The directories of both trees, by number. No path is ever opened as a string: each directory is
//! opened by its name in its parent. Only a bounded number of them stays open, so a tree may be as
//! deep and as wide as it likes. A directory that was closed is reopened name by name, and must
//! then be the same inode as before.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::queue::lock;

/// The number of a directory. The root has 0.
pub type DirectoryId = u32;

/// The root of both trees.
pub const ROOT: DirectoryId = 0;

/// How many directories of each tree stay open.
const OPEN: usize = 192;

/// One of the two trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The tree that is read.
    Source,
    /// The tree that is written.
    Target,
}

/// What identifies an inode: device number and inode number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct InodeId {
    /// The number of the file system's device.
    pub device: u64,
    /// The number of the inode on it.
    pub number: u64,
}

impl InodeId {
    /// The inode that stat(2) described.
    pub fn of(stat: &Stat) -> Self {
        InodeId { device: stat.st_dev, number: stat.st_ino }
    }
}

#[derive(Debug)]
struct Record {
    parent: DirectoryId,
    name_at: usize,
    name_length: u16,
    /// Entries not yet copied, plus one while the directory is being listed.
    pending: u32,
    inode: [InodeId; 2],
}

/// All directories found so far.
#[derive(Debug)]
pub struct Directories {
    inner: Mutex<Inner>,
    /// Path of the source's root in the boot environment, without a trailing slash.
    prefix: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Record>,
    names: Vec<u8>,
    open: [HashMap<DirectoryId, OpenDirectory>; 2],
    clock: u64,
}

#[derive(Debug)]
struct OpenDirectory {
    fd: Arc<OwnedFd>,
    /// Value of `clock` when it was last used.
    used: u64,
}

/// How a directory is opened: for reading, without changing its access time.
pub const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC);

/// Opens a directory by its name in another one. A mount point fails with `EXDEV`.
pub fn open_in(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), resolve) {
        // O_NOATIME is reserved for the owner, and for root, which an id-mapped mount may not
        // recognise.
        Err(Errno::PERM) => {
            rustix::fs::openat2(parent, name, DIRECTORY - OFlags::NOATIME, Mode::empty(), resolve)
        }
        other => other,
    }
}

fn inode_of(fd: &OwnedFd) -> Result<InodeId, Errno> {
    rustix::fs::fstat(fd).map(|stat| InodeId::of(&stat))
}

impl Directories {
    /// `prefix` is the mount point of the source in the boot environment.
    pub fn new(prefix: &[u8], source: OwnedFd, target: Option<OwnedFd>) -> Result<Self, Errno> {
        let mut inner = Inner::default();
        let inode = [InodeId::default(); 2];
        let mut root = Record { parent: ROOT, name_at: 0, name_length: 0, pending: 1, inode };
        let always = |fd| OpenDirectory { fd: Arc::new(fd), used: u64::MAX };
        root.inode[0] = inode_of(&source)?;
        inner.open[0].insert(ROOT, always(source));
        if let Some(target) = target {
            root.inode[1] = inode_of(&target)?;
            inner.open[1].insert(ROOT, always(target));
        }
        inner.records.push(root);
        let length = prefix.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
        Ok(Directories { inner: Mutex::new(inner), prefix: prefix[..length].to_vec() })
    }

    /// Adds a directory found in the source.
    pub fn add(
        &self,
        parent: DirectoryId,
        name: &CStr,
        source: &Arc<OwnedFd>,
        inode: InodeId,
    ) -> DirectoryId {
        let mut inner = lock(&self.inner);
        let id = DirectoryId::try_from(inner.records.len()).unwrap_or(DirectoryId::MAX);
        let name_at = inner.names.len();
        inner.names.extend_from_slice(name.to_bytes());
        let name_length = u16::try_from(name.to_bytes().len()).unwrap_or(u16::MAX);
        inner.records.push(Record {
            parent,
            name_at,
            name_length,
            pending: 1,
            inode: [inode, InodeId::default()],
        });
        inner.keep(Side::Source, id, Arc::clone(source));
        id
    }

    /// Adds the counterpart of a source directory in the target.
    pub fn add_target(&self, id: DirectoryId, target: OwnedFd, stat: &Stat) {
        let mut inner = lock(&self.inner);
        inner.records[id as usize].inode[Side::Target as usize] = InodeId::of(stat);
        inner.keep(Side::Target, id, Arc::new(target));
    }

    /// Adds `entries` to the number of entries of this directory that are yet to be copied.
    pub fn expect(&self, id: DirectoryId, entries: usize) {
        lock(&self.inner).records[id as usize].pending += entries as u32;
    }

    /// Subtracts `entries` from that number. Returns true if none is left.
    pub fn done(&self, id: DirectoryId, entries: usize) -> bool {
        let record = &mut lock(&self.inner).records[id as usize];
        record.pending -= entries as u32;
        record.pending == 0
    }

    /// The parent of a directory. The root is its own parent.
    pub fn parent(&self, id: DirectoryId) -> DirectoryId {
        lock(&self.inner).records[id as usize].parent
    }

    /// The inode of a directory in one of the trees.
    pub fn inode(&self, side: Side, id: DirectoryId) -> InodeId {
        lock(&self.inner).records[id as usize].inode[side as usize]
    }

    /// The path of an entry in the boot environment.
    pub fn path(&self, id: DirectoryId, name: &[u8]) -> Vec<u8> {
        let inner = lock(&self.inner);
        let mut names = Vec::new();
        let mut at = id;
        while at != ROOT {
            names.push(inner.name(at));
            at = inner.records[at as usize].parent;
        }
        let mut path = self.prefix.clone();
        for part in names.into_iter().rev().chain([name]).filter(|part| !part.is_empty()) {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// [`Directories::path`] as a `PathBuf`, for messages.
    pub fn path_buf(&self, id: DirectoryId, name: &CStr) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path(id, name.to_bytes())))
    }

    /// Returns the open directory, opening it again if it was closed. Fails with `ESTALE` if
    /// another directory has taken its place.
    pub fn open(&self, side: Side, id: DirectoryId) -> Result<Arc<OwnedFd>, Errno> {
        let (mut directory, way) = {
            let mut inner = lock(&self.inner);
            inner.clock += 1;
            let clock = inner.clock;
            let mut way = Vec::new();
            let mut at = id;
            loop {
                if let Some(open) = inner.open[side as usize].get_mut(&at) {
                    if at != ROOT {
                        open.used = clock;
                    }
                    break (Arc::clone(&open.fd), way);
                }
                let name = inner.name(at).to_vec();
                way.push((at, name, inner.records[at as usize].inode[side as usize]));
                at = inner.records[at as usize].parent;
            }
        };
        for (at, name, inode) in way.into_iter().rev() {
            let name = std::ffi::CString::new(name).map_err(|_| Errno::INVAL)?;
            let opened = open_in(&directory, &name)?;
            if inode_of(&opened)? != inode {
                return Err(Errno::STALE);
            }
            directory = Arc::new(opened);
            lock(&self.inner).keep(side, at, Arc::clone(&directory));
        }
        Ok(directory)
    }

    /// Closes a directory that is unlikely to be needed again.
    pub fn close(&self, id: DirectoryId) {
        if id != ROOT {
            let mut inner = lock(&self.inner);
            inner.open.iter_mut().for_each(|open| drop(open.remove(&id)));
        }
    }
}

impl Inner {
    fn name(&self, id: DirectoryId) -> &[u8] {
        let record = &self.records[id as usize];
        &self.names[record.name_at..record.name_at + usize::from(record.name_length)]
    }

    fn keep(&mut self, side: Side, id: DirectoryId, directory: Arc<OwnedFd>) {
        self.clock += 1;
        let clock = self.clock;
        let open = &mut self.open[side as usize];
        if open.len() >= OPEN {
            // Closes half of them at once, because finding the oldest takes a pass over all.
            let mut used: Vec<u64> = open.values().map(|open| open.used).collect();
            let (_, middle, _) = used.select_nth_unstable(OPEN / 2);
            let middle = *middle;
            open.retain(|_, open| open.used >= middle);
        }
        open.insert(id, OpenDirectory { fd: directory, used: clock });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn root(path: &std::path::Path) -> OwnedFd {
        rustix::fs::open(path, DIRECTORY, Mode::empty()).unwrap()
    }

    #[test]
    fn a_closed_directory_is_reopened_but_not_another_in_its_place() {
        let top = tempfile::tempdir().unwrap();
        let directories = Directories::new(b"/", root(top.path()), None).unwrap();
        let mut parent = ROOT;
        let mut path = top.path().to_owned();
        for _ in 0..3 * OPEN / 2 {
            path.push("d");
            std::fs::create_dir(&path).unwrap();
            let fd = open_in(&directories.open(Side::Source, parent).unwrap(), c"d").unwrap();
            let inode = inode_of(&fd).unwrap();
            parent = directories.add(parent, c"d", &Arc::new(fd), inode);
        }
        let first = 1;
        directories.close(first);
        assert!(directories.open(Side::Source, first).is_ok());
        assert_eq!(directories.path(2, b"x"), b"/d/d/x");

        directories.close(first);
        std::fs::rename(top.path().join("d"), top.path().join("e")).unwrap();
        std::fs::create_dir(top.path().join("d")).unwrap();
        assert_eq!(directories.open(Side::Source, first).unwrap_err(), Errno::STALE);
        std::fs::remove_dir(top.path().join("d")).unwrap();
        std::os::unix::fs::symlink("e", top.path().join("d")).unwrap();
        assert_eq!(directories.open(Side::Source, first).unwrap_err(), Errno::NOTDIR);
    }

    #[test]
    fn paths_are_those_of_the_boot_environment() {
        let top = tempfile::tempdir().unwrap();
        for (prefix, expected) in [("/", "/"), ("/boot", "/boot"), ("/boot/", "/boot")] {
            let directories = Directories::new(prefix.as_bytes(), root(top.path()), None).unwrap();
            assert_eq!(directories.path(ROOT, b""), expected.as_bytes());
            let name = CString::new("a").unwrap();
            assert_eq!(directories.path_buf(ROOT, &name), PathBuf::from(expected).join("a"));
        }
    }
}
