//! Walks a source tree, directory by directory, and the entries of a directory in the order of
//! their inode numbers, which on most file systems is the order of their content on the disk. A
//! walk stays on the mount where it started, and does not enter snapshots of btrfs.

use std::ffi::{CStr, CString, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;

use super::directories::{Directories, DirectoryId, InodeId, ROOT, Side, open_in};
use super::exclude::{Exclude, Verdict};
use super::queue::lock;
use crate::error::{Error, Result};
use crate::tree::subvolume::Subvolume;
use crate::tree::work_stack::WorkStack;
use crate::tree::working_directory::WorkingDirectory;

/// The most entries of one directory that are sorted together. A larger directory is walked in
/// several batches.
const BATCH: usize = 8192;

/// Size of the buffer for getdents64(2), in bytes.
const LISTING: usize = 64 * 1024;

/// An entry as the listing of its directory describes it, and what the rules say of it.
#[derive(Debug)]
pub struct Entry {
    /// Its inode number.
    pub inode: u64,
    /// Its name.
    pub name: CString,
    /// Its type.
    pub kind: FileType,
    /// What the rules say of it; never [`Verdict::Skip`].
    pub verdict: Verdict,
}

/// Entries of one directory, sorted by inode number.
#[derive(Debug)]
pub struct Batch {
    /// The entries that are not left out.
    pub entries: Vec<Entry>,
    /// Whether these are all entries of the directory that are copied.
    pub whole: bool,
    /// Whether it is the first batch of the directory.
    pub first: bool,
}

/// A directory that the walk has found.
#[derive(Clone, Copy, Debug)]
pub struct FoundDirectory<'a> {
    /// Its number in [`Directories`].
    pub id: DirectoryId,
    /// The directory that holds it.
    pub parent: DirectoryId,
    /// Its name in `parent`.
    pub name: &'a CStr,
    /// The open directory.
    pub source: &'a OwnedFd,
    /// Its inode.
    pub stat: &'a Stat,
}

/// A directory of the source that is being listed.
#[derive(Clone, Copy, Debug)]
pub struct SourceDirectory<'a> {
    /// Its number in [`Directories`].
    pub id: DirectoryId,
    /// The open directory.
    pub fd: &'a Arc<OwnedFd>,
    /// What the rules say of it.
    pub verdict: Verdict,
}

/// Receives what the walk finds. Before the walk reports an entry, it calls [`Directories::expect`]
/// on the directory that holds it. The sink calls [`Directories::done`] once it no longer needs
/// that directory for the entry.
pub trait Sink: Sync {
    /// What the sink keeps for a directory while its entries are reported.
    type Directory: Send + Sync;
    /// Receives a directory. The walk does not enter it if this returns `None`.
    fn directory(&self, found: FoundDirectory<'_>) -> Result<Option<Self::Directory>>;
    /// Receives entries of a directory that was reported before. Those that are directories
    /// themselves are reported later.
    fn entries(
        &self,
        here: &mut WorkingDirectory,
        directory: &Self::Directory,
        source: SourceDirectory<'_>,
        batch: Batch,
    ) -> Result<()>;
    /// Receives a directory on which something else is mounted, which is kept empty. `stat`
    /// describes the root of what is mounted.
    fn mount_point(&self, parent: DirectoryId, name: &CStr, stat: &Stat) -> Result<()>;
    /// Receives the path of a snapshot, an old state of the tree that is left out altogether.
    fn snapshot(&self, parent: DirectoryId, path: PathBuf) -> Result<()>;
    /// Says that the directory has been listed: all its batches have been reported, or are with
    /// another thread that will report them.
    fn listed(&self, id: DirectoryId) -> Result<()>;
    /// Receives an entry whose inode could not be read. If `name` is empty, the rest of the
    /// directory could not be listed.
    fn lost(&self, directory: DirectoryId, name: &CStr, why: Errno) -> Result<()>;
}

enum Task<D> {
    Directory {
        parent: DirectoryId,
        name: CString,
        verdict: Verdict,
    },
    Batch {
        directory: Arc<D>,
        id: DirectoryId,
        source: Arc<OwnedFd>,
        verdict: Verdict,
        batch: Batch,
    },
}

struct Walk<'a, S: Sink> {
    directories: &'a Directories,
    exclude: &'a Exclude,
    sink: &'a S,
    stack: WorkStack<Task<S::Directory>>,
}

/// Walks the tree of `directories`, whose root is open, with `threads` threads. What cannot be read
/// is reported to the sink.
///
/// # Errors
/// The first error that the sink returns.
pub fn walk<S: Sink>(
    directories: &Directories,
    exclude: &Exclude,
    sink: &S,
    threads: usize,
) -> Result<()> {
    let verdict = exclude.verdict_of_mount_point(&directories.path(ROOT, b""));
    let root = Task::Directory { parent: ROOT, name: CString::default(), verdict };
    let walk = Walk { directories, exclude, sink, stack: WorkStack::new(root) };
    let failure: Mutex<Option<Error>> = Mutex::default();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut here = WorkingDirectory::default();
                let mut buffer = vec![MaybeUninit::<u8>::uninit(); LISTING];
                while let Some(task) = walk.stack.take() {
                    if let Err(error) = walk.run(task, &mut here, &mut buffer) {
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
    fn run(
        &self,
        task: Task<S::Directory>,
        here: &mut WorkingDirectory,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<()> {
        match task {
            Task::Batch { directory, id, source, verdict, batch } => {
                let source = SourceDirectory { id, fd: &source, verdict };
                self.sink.entries(here, &directory, source, batch)
            }
            Task::Directory { parent, name, verdict } if name.is_empty() => {
                let root = self.directories.open(Side::Source, parent);
                match root.and_then(|fd| rustix::fs::fstat(&*fd).map(|stat| (fd, stat))) {
                    Ok((source, stat)) => self.enter(
                        FoundDirectory {
                            id: ROOT,
                            parent,
                            name: c"",
                            source: &source,
                            stat: &stat,
                        },
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
        parent: DirectoryId,
        name: &CStr,
        verdict: Verdict,
        here: &mut WorkingDirectory,
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
            // It was replaced by something else since it was listed.
            Err(Errno::NOTDIR | Errno::LOOP) => return sink.lost(parent, name, Errno::NOENT),
            Err(why) => return sink.lost(parent, name, why),
        };
        let stat = match rustix::fs::fstat(&source) {
            Ok(stat) => stat,
            Err(why) => return sink.lost(parent, name, why),
        };
        if let Some(subvolume) = Subvolume::with_root(&source, &stat)
            && let Ok(root) = self.directories.open(Side::Source, ROOT)
        {
            let path = self.directories.path(parent, name.to_bytes());
            if subvolume.is_old_state_of(&root, &path) && !self.exclude.is_included(&path) {
                return sink.snapshot(parent, PathBuf::from(OsString::from_vec(path)));
            }
        }
        let source = Arc::new(source);
        let id = self.directories.add(parent, name, &source, InodeId::of(&stat));
        self.enter(
            FoundDirectory { id, parent, name, source: &source, stat: &stat },
            verdict,
            here,
            buffer,
        )
    }

    fn enter(
        &self,
        found: FoundDirectory<'_>,
        verdict: Verdict,
        here: &mut WorkingDirectory,
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
            let source = SourceDirectory { id, fd: &source, verdict };
            self.list(source, &Arc::new(directory), here, buffer)?;
        }
        self.sink.listed(id)
    }

    fn list(
        &self,
        source: SourceDirectory<'_>,
        directory: &Arc<S::Directory>,
        here: &mut WorkingDirectory,
        buffer: &mut [MaybeUninit<u8>],
    ) -> Result<()> {
        let id = source.id;
        let mut path = self.directories.path(id, b"");
        if !path.ends_with(b"/") {
            path.push(b'/');
        }
        let length = path.len();
        let mut listing = RawDir::new(&**source.fd, buffer);
        let mut batch = Batch { entries: Vec::new(), whole: false, first: true };
        let mut is_readable = true;
        let mut subdirectories: Vec<(u64, Task<S::Directory>)> = Vec::new();
        loop {
            let end = match listing.next() {
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    path.truncate(length);
                    path.extend_from_slice(name.to_bytes());
                    // Not copied: mkfs made the target's own.
                    let is_lost_and_found = id == ROOT && name.to_bytes() == b"lost+found";
                    if !is_lost_and_found && !matches!(name.to_bytes(), b"." | b"..") {
                        let verdict = self.exclude.verdict(&path, source.verdict);
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
            self.settle_kinds(id, source.fd, &mut batch)?;
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
            // Share the batches of a large directory with threads that have nothing to do.
            if !full.first && self.stack.has_idle_thread() {
                self.stack.push(std::iter::once(Task::Batch {
                    directory: Arc::clone(directory),
                    id,
                    source: Arc::clone(source.fd),
                    verdict: source.verdict,
                    batch: full,
                }));
            } else {
                self.sink.entries(here, directory, source, full)?;
            }
            if end {
                break;
            }
        }
        subdirectories.sort_unstable_by_key(|(inode, _)| std::cmp::Reverse(*inode));
        if !subdirectories.is_empty() {
            self.stack.push(subdirectories.into_iter().map(|(_, task)| task));
        }
        Ok(())
    }

    /// Looks up the type of entries for which the listing does not have it, and leaves out those
    /// that are only to be descended into but are not directories.
    fn settle_kinds(&self, id: DirectoryId, source: &OwnedFd, batch: &mut Batch) -> Result<()> {
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
            entry.kind == FileType::Directory || entry.verdict != Verdict::DescendOnly
        });
        for (name, why) in lost {
            self.directories.expect(id, 1);
            self.sink.lost(id, &name, why)?;
        }
        Ok(())
    }
}
