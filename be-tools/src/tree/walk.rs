//! Walking a source tree: directory by directory, entries in the order of their inodes, which on
//! most file systems is the order of their content on the disk. It stays on the mount it starts on.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;

use super::directories::{Directories, Id, ROOT, Side, open_in};
use super::exclude::{Exclude, Verdict};
use super::queue::lock;
use crate::error::{Error, Result};
use crate::tree::work_stack::Stack;
use crate::tree::working_directory::Standpoint;

/// Entries of one directory that are sorted together: a directory of any size passes through in
/// pieces.
const BATCH: usize = 8192;

/// Bytes asked from the kernel at once.
const LISTING: usize = 64 * 1024;

/// What a listing says of one entry, with the rules' verdict.
#[derive(Debug)]
pub struct Entry {
    /// Inode number.
    pub inode: u64,
    /// Its name.
    pub name: CString,
    /// Its kind.
    pub kind: FileType,
    /// Copied, or a directory that is kept empty or lies on the way.
    pub verdict: Verdict,
}

/// Entries of one directory, by inode.
#[derive(Debug)]
pub struct Batch {
    /// None of them is left out.
    pub entries: Vec<Entry>,
    /// The directory has no others that are copied.
    pub whole: bool,
    /// It is the first of this directory.
    pub first: bool,
}

/// A directory that was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// Its number; it is in [`Directories`] already.
    pub id: Id,
    /// The directory it is in.
    pub parent: Id,
    /// Its name there.
    pub name: &'a CStr,
    /// It, open.
    pub source: &'a OwnedFd,
    /// Its inode.
    pub stat: &'a Stat,
}

/// What the walk tells. For every entry and directory it has called [`Directories::expect`] on the
/// parent before; whoever is told of one calls [`Directories::done`] once it needs the parent no
/// more.
pub trait Sink: Sync {
    /// What it keeps of a directory while that is listed.
    type Directory: Send + Sync;
    /// A directory. `None`: do not look into it.
    fn directory(&self, found: Found<'_>) -> Result<Option<Self::Directory>>;
    /// Entries of a directory that has been told of before; those that are directories are told of
    /// later.
    fn entries(
        &self,
        here: &mut Standpoint,
        directory: &Self::Directory,
        place: (Id, &Arc<OwnedFd>, Verdict),
        batch: Batch,
    ) -> Result<()>;
    /// A directory on which something else is mounted: kept as an empty one. `stat` is of the
    /// mounted root.
    fn mount_point(&self, parent: Id, name: &CStr, stat: &Stat) -> Result<()>;
    /// All batches of the directory have been told or are about to be.
    fn listed(&self, id: Id) -> Result<()>;
    /// An entry that could not be looked at; without a name, the rest of the directory's own
    /// listing.
    fn lost(&self, directory: Id, name: &CStr, why: Errno) -> Result<()>;
}

enum Task<F> {
    Directory { parent: Id, name: CString, verdict: Verdict },
    Batch { directory: Arc<F>, source: Arc<OwnedFd>, id: Id, verdict: Verdict, batch: Batch },
}

struct Walk<'a, S: Sink> {
    directories: &'a Directories,
    exclude: &'a Exclude,
    sink: &'a S,
    stack: Stack<Task<S::Directory>>,
}

/// Walks the tree of `directories`, whose root is open, with so many threads.
///
/// # Errors
/// What the sink returns; what cannot be read is told to it.
pub fn walk<S: Sink>(
    directories: &Directories,
    exclude: &Exclude,
    sink: &S,
    threads: usize,
) -> Result<()> {
    let verdict = exclude.verdict_of_mount_point(&directories.path(ROOT, b""));
    let root = Task::Directory { parent: ROOT, name: CString::default(), verdict };
    let walk = Walk { directories, exclude, sink, stack: Stack::new(root) };
    let failure: Mutex<Option<Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut here = Standpoint::default();
                let mut buffer = vec![MaybeUninit::<u8>::uninit(); LISTING];
                while let Some(work) = walk.stack.take() {
                    if let Err(error) = walk.work(work, &mut here, &mut buffer) {
                        lock(&failure).get_or_insert(error);
                        walk.stack.end();
                    }
                    walk.stack.done();
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

impl<S: Sink> Walk<'_, S> {
    fn work(
        &self,
        work: Task<S::Directory>,
        here: &mut Standpoint,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<()> {
        match work {
            Task::Batch { directory, source, id, verdict, batch } => {
                self.sink.entries(here, &directory, (id, &source, verdict), batch)
            }
            Task::Directory { parent, name, verdict } if name.is_empty() => {
                let root = self.directories.open(Side::Source, parent);
                match root.and_then(|fd| rustix::fs::fstat(&*fd).map(|stat| (fd, stat))) {
                    Ok((source, stat)) => self.enter(
                        Found { id: ROOT, parent, name: c"", source: &source, stat: &stat },
                        verdict,
                        here,
                        buffer,
                    ),
                    Err(why) => {
                        self.sink.lost(ROOT, c"", why)?;
                        self.sink.listed(ROOT)
                    }
                }
            }
            Task::Directory { parent, name, verdict } => {
                self.descend(parent, &name, verdict, here, buffer)
            }
        }
    }

    fn descend(
        &self,
        parent: Id,
        name: &CStr,
        verdict: Verdict,
        here: &mut Standpoint,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<()> {
        let sink = self.sink;
        let above = match self.directories.open(Side::Source, parent) {
            Ok(above) => above,
            Err(why) => return sink.lost(parent, name, why),
        };
        let source = match open_in(&above, name) {
            Ok(source) => source,
            Err(Errno::XDEV) => {
                let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
                return match rustix::fs::statat(&*above, name, flags) {
                    Ok(stat) => sink.mount_point(parent, name, &stat),
                    Err(why) => sink.lost(parent, name, why),
                };
            }
            // It has become something else since it was listed.
            Err(Errno::NOTDIR | Errno::LOOP) => return sink.lost(parent, name, Errno::NOENT),
            Err(why) => return sink.lost(parent, name, why),
        };
        let stat = match rustix::fs::fstat(&source) {
            Ok(stat) => stat,
            Err(why) => return sink.lost(parent, name, why),
        };
        let source = Arc::new(source);
        let id = self.directories.add(parent, name, &source, (stat.st_dev, stat.st_ino));
        self.enter(Found { id, parent, name, source: &source, stat: &stat }, verdict, here, buffer)
    }

    fn enter(
        &self,
        found: Found<'_>,
        verdict: Verdict,
        here: &mut Standpoint,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<()> {
        let id = found.id;
        let directory = self.sink.directory(found)?;
        if let Some(directory) = directory
            && verdict != Verdict::DirectoryOnly
        {
            let source = match self.directories.open(Side::Source, id) {
                Ok(source) => source,
                Err(why) => {
                    self.sink.lost(id, c"", why)?;
                    return self.sink.listed(id);
                }
            };
            self.list((id, &source, verdict), &Arc::new(directory), here, buffer)?;
        }
        self.sink.listed(id)
    }

    fn list(
        &self,
        (id, source, verdict): (Id, &Arc<OwnedFd>, Verdict),
        directory: &Arc<S::Directory>,
        here: &mut Standpoint,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<()> {
        let mut path = self.directories.path(id, b"");
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        let length = path.len();
        let mut listing = RawDir::new(&**source, buffer);
        let mut batch = Batch { entries: Vec::new(), whole: false, first: true };
        let mut is_readable = true;
        let mut subdirectories: Vec<(u64, Task<S::Directory>)> = Vec::new();
        loop {
            let end = match listing.next() {
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    path.truncate(length);
                    path.extend_from_slice(name.to_bytes());
                    // A file system's own, at its top: mkfs made one in the target.
                    let is_mkfs_own = id == ROOT && name.to_bytes() == b"lost+found";
                    if !is_mkfs_own && !matches!(name.to_bytes(), b"." | b"..") {
                        let verdict = self.exclude.verdict(&path, verdict);
                        if verdict != Verdict::Skip {
                            let (inode, kind) = (entry.ino(), entry.file_type());
                            batch.entries.push(Entry {
                                inode,
                                name: name.to_owned(),
                                kind,
                                verdict,
                            });
                        }
                    }
                    false
                }
                Some(Err(Errno::INTR)) => false,
                Some(Err(why)) => {
                    self.sink.lost(id, c"", why)?;
                    is_readable = false;
                    true
                }
                None => true,
            };
            if !end && batch.entries.len() < BATCH {
                continue;
            }
            self.settle_kinds(id, source, &mut batch)?;
            batch.entries.sort_unstable_by_key(|entry| entry.inode);
            batch.whole = end && batch.first && is_readable;
            for entry in batch.entries.iter().filter(|entry| entry.kind == FileType::Directory) {
                let (name, verdict) = (entry.name.clone(), entry.verdict);
                subdirectories.push((entry.inode, Task::Directory { parent: id, name, verdict }));
            }
            self.directories.expect(id, batch.entries.len());
            let full = std::mem::replace(
                &mut batch,
                Batch { entries: Vec::new(), whole: false, first: false },
            );
            // Another thread has nothing to do: a directory of many entries is shared.
            if !full.first && self.stack.is_wanted() {
                let (directory, source) = (Arc::clone(directory), Arc::clone(source));
                self.stack.push(std::iter::once(Task::Batch {
                    directory,
                    source,
                    id,
                    verdict,
                    batch: full,
                }));
            } else {
                self.sink.entries(here, directory, (id, source, verdict), full)?;
            }
            if end {
                break;
            }
        }
        subdirectories.sort_unstable_by_key(|(inode, _)| std::cmp::Reverse(*inode));
        if !subdirectories.is_empty() {
            self.stack.push(subdirectories.into_iter().map(|(_, work)| work));
        }
        Ok(())
    }

    /// Asks for kinds that the listing does not say, and leaves out what is only on the way to
    /// something.
    fn settle_kinds(&self, id: Id, source: &OwnedFd, batch: &mut Batch) -> Result<()> {
        let mut lost = Vec::new();
        batch.entries.retain_mut(|entry| {
            if entry.kind == FileType::Unknown {
                match rustix::fs::statat(source, &*entry.name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => entry.kind = FileType::from_raw_mode(stat.st_mode),
                    Err(why) => {
                        lost.push((std::mem::take(&mut entry.name), why));
                        return false;
                    }
                }
            }
            entry.kind == FileType::Directory || entry.verdict != Verdict::OnTheWay
        });
        for (name, why) in lost {
            self.directories.expect(id, 1);
            self.sink.lost(id, &name, why)?;
        }
        Ok(())
    }
}
