//! The directories of both trees by number. Nothing is ever reached by a path string: a directory
//! is opened by its name in its parent, and only a bounded number stays open, so that neither depth
//! nor width has a limit. A directory that was closed is found again name by name, and must then be
//! the one it was.

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::queue::lock;

/// Number of a directory; the root has 0.
pub type Id = u32;

/// The root of both trees.
pub const ROOT: Id = 0;

/// How many directories of each tree stay open.
const OPEN: usize = 192;

/// Which tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The tree that is read.
    Source,
    /// The tree that is written.
    Target,
}

/// What tells one inode from all others.
pub type Inode = (u64, u64);

#[derive(Debug)]
struct Record {
    parent: Id,
    name_at: usize,
    name_length: u16,
    /// Entries not yet copied, and one while the directory is being listed.
    pending: u32,
    inode: [Inode; 2],
}

/// All directories met so far.
#[derive(Debug)]
pub struct Directories {
    inner: Mutex<Inner>,
    /// Path of the source's root in the boot environment, without a slash at its end.
    prefix: Vec<u8>,
}

#[derive(Debug, Default)]
struct Inner {
    records: Vec<Record>,
    names: Vec<u8>,
    open: [HashMap<Id, (Arc<OwnedFd>, u64)>; 2],
    clock: u64,
}

/// How a directory is opened: its content is read without a trace in its access time.
pub const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC);

/// Opens a directory by its name in another one; `EXDEV` for a mount point.
pub fn open_in(parent: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(parent, name, DIRECTORY, Mode::empty(), resolve) {
        // O_NOATIME is for the owner only, and for root on file systems that map ids.
        Err(Errno::PERM) => {
            rustix::fs::openat2(parent, name, DIRECTORY - OFlags::NOATIME, Mode::empty(), resolve)
        }
        other => other,
    }
}

fn inode_of(fd: &OwnedFd) -> Result<Inode, Errno> {
    rustix::fs::fstat(fd).map(|s| (s.st_dev, s.st_ino))
}

impl Directories {
    /// `prefix` is the mount point of the source in the boot environment.
    pub fn new(prefix: &[u8], source: OwnedFd, target: Option<OwnedFd>) -> Result<Self, Errno> {
        let mut inner = Inner::default();
        let mut root =
            Record { parent: ROOT, name_at: 0, name_length: 0, pending: 1, inode: [(0, 0); 2] };
        root.inode[0] = inode_of(&source)?;
        inner.open[0].insert(ROOT, (Arc::new(source), u64::MAX));
        if let Some(target) = target {
            root.inode[1] = inode_of(&target)?;
            inner.open[1].insert(ROOT, (Arc::new(target), u64::MAX));
        }
        inner.records.push(root);
        let length = prefix.iter().rposition(|b| *b != b'/').map_or(0, |last| last + 1);
        Ok(Directories { inner: Mutex::new(inner), prefix: prefix[..length].to_vec() })
    }

    /// Notes a directory met in the source.
    pub fn add(&self, parent: Id, name: &CStr, source: &Arc<OwnedFd>, inode: Inode) -> Id {
        let mut inner = lock(&self.inner);
        let id = Id::try_from(inner.records.len()).unwrap_or(Id::MAX);
        let name_at = inner.names.len();
        inner.names.extend_from_slice(name.to_bytes());
        let name_length = u16::try_from(name.to_bytes().len()).unwrap_or(u16::MAX);
        inner.records.push(Record {
            parent,
            name_at,
            name_length,
            pending: 1,
            inode: [inode, (0, 0)],
        });
        inner.keep(Side::Source, id, Arc::clone(source));
        id
    }

    /// Notes its counterpart in the target.
    pub fn made(&self, id: Id, target: OwnedFd, stat: &Stat) {
        let mut inner = lock(&self.inner);
        inner.records[id as usize].inode[Side::Target as usize] = (stat.st_dev, stat.st_ino);
        inner.keep(Side::Target, id, Arc::new(target));
    }

    /// So many entries more to copy in this directory.
    pub fn expect(&self, id: Id, entries: usize) {
        lock(&self.inner).records[id as usize].pending += entries as u32;
    }

    /// So many entries less; true when they were the last.
    pub fn done(&self, id: Id, entries: usize) -> bool {
        let record = &mut lock(&self.inner).records[id as usize];
        record.pending -= entries as u32;
        record.pending == 0
    }

    /// The parent of a directory; the root is its own.
    pub fn parent(&self, id: Id) -> Id {
        lock(&self.inner).records[id as usize].parent
    }

    /// Device and inode number of a directory.
    pub fn inode(&self, side: Side, id: Id) -> Inode {
        lock(&self.inner).records[id as usize].inode[side as usize]
    }

    /// The path of an entry in the boot environment.
    pub fn path(&self, id: Id, name: &[u8]) -> Vec<u8> {
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

    /// The same, for people and errors.
    pub fn path_buf(&self, id: Id, name: &CStr) -> PathBuf {
        PathBuf::from(OsStr::from_bytes(&self.path(id, name.to_bytes())))
    }

    /// The open directory. `ESTALE`: another directory has taken its place.
    pub fn open(&self, side: Side, id: Id) -> Result<Arc<OwnedFd>, Errno> {
        let (mut directory, way) = {
            let mut inner = lock(&self.inner);
            inner.clock += 1;
            let clock = inner.clock;
            let mut way = Vec::new();
            let mut at = id;
            loop {
                if let Some((directory, used)) = inner.open[side as usize].get_mut(&at) {
                    if at != ROOT {
                        *used = clock;
                    }
                    break (Arc::clone(directory), way);
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

    /// Closes a directory that will hardly be needed again.
    pub fn close(&self, id: Id) {
        if id != ROOT {
            let mut inner = lock(&self.inner);
            inner.open.iter_mut().for_each(|open| drop(open.remove(&id)));
        }
    }
}

impl Inner {
    fn name(&self, id: Id) -> &[u8] {
        let record = &self.records[id as usize];
        &self.names[record.name_at..record.name_at + usize::from(record.name_length)]
    }

    fn keep(&mut self, side: Side, id: Id, directory: Arc<OwnedFd>) {
        self.clock += 1;
        let clock = self.clock;
        let open = &mut self.open[side as usize];
        if open.len() >= OPEN {
            // Half of them at once: looking for the oldest costs a pass over all.
            let mut used: Vec<u64> = open.values().map(|(_, used)| *used).collect();
            let (_, middle, _) = used.select_nth_unstable(OPEN / 2);
            let middle = *middle;
            open.retain(|_, (_, used)| *used >= middle);
        }
        open.insert(id, (directory, clock));
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
    fn a_closed_directory_is_found_again_and_a_planted_one_is_not() {
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
