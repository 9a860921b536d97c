//! Looks at every inode of a tree on several threads, a directory at a time.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::fs::FileType;
use rustix::io::Errno;

use super::exclude::{Exclude, Verdict};
use super::listing::{Listed, Place, THREADS, Tree, joined, list};
use super::queue::lock;
use super::work_stack::WorkStack;
use super::working_directory::WorkingDirectory;
use crate::error::{Doing, Result};
use crate::plan::go_on;

/// How often progress is reported and signals are checked.
const TICK: Duration = Duration::from_millis(100);

/// How far a walk has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inspected {
    /// Entries.
    pub entries: u64,
    /// Bytes of content that were read.
    pub bytes: u64,
}

/// A directory that is being looked at.
pub(super) struct Directory<'a> {
    pub(super) fd: &'a OwnedFd,
    /// From the root of the tree, with a slash first.
    pub(super) path: &'a [u8],
    /// What the rules say of it.
    pub(super) verdict: Verdict,
}

/// What is done with each directory. The threads of a walk share it.
pub(super) trait Inspector: Sync {
    /// The entries of a directory, sorted by name. `read` is called with the bytes of content that
    /// were read.
    fn directory(&self, directory: Directory<'_>, entries: Vec<Listed>, read: &dyn Fn(u64));

    /// A directory or an entry that cannot be read.
    fn unread(&self, path: &[u8], why: Errno);
}

struct Task {
    above: Arc<OwnedFd>,
    name: CString,
    path: Vec<u8>,
    verdict: Verdict,
}

/// Calls the inspector with every directory of a tree, except what the rules leave out. `tick` is
/// called regularly with the count so far; an error from it ends the walk.
///
/// # Errors
/// The root cannot be opened; that of `tick`; and [`Error::Interrupted`](crate::Error::Interrupted).
pub(super) fn inspect(
    tree: &Tree,
    rules: &Exclude,
    inspector: &dyn Inspector,
    tick: &mut dyn FnMut(Inspected) -> Result<()>,
) -> Result<Inspected> {
    let (path, verdict) = (b"/".to_vec(), Verdict::Copy);
    let stack = WorkStack::new(Task { above: tree.start()?, name: c".".into(), path, verdict });
    let (entries, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let count = || Inspected {
        entries: entries.load(Ordering::Relaxed),
        bytes: bytes.load(Ordering::Relaxed),
    };
    let read = |more| {
        bytes.fetch_add(more, Ordering::Relaxed);
    };
    let working = AtomicUsize::new(THREADS);
    let failure = Mutex::new(None::<Result<()>>);
    let caller = std::thread::current();
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                let mut here = WorkingDirectory::default();
                while let Some(task) = stack.take() {
                    match look(tree, rules, inspector, &task, &mut here, &read) {
                        Ok((found, below)) => {
                            entries.fetch_add(found, Ordering::Relaxed);
                            stack.push(below.into_iter());
                        }
                        Err(why) => {
                            let path = OsStr::from_bytes(&task.path);
                            let error = Err(why).at("opening", path.as_ref());
                            lock(&failure).get_or_insert(error);
                            stack.end();
                        }
                    }
                    stack.done();
                }
                if working.fetch_sub(1, Ordering::Release) == 1 {
                    caller.unpark();
                }
            });
        }
        while working.load(Ordering::Acquire) > 0 {
            std::thread::park_timeout(TICK);
            if let Err(error) = go_on().and_then(|()| tick(count())) {
                lock(&failure).get_or_insert(Err(error));
                stack.end();
            }
        }
    });
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => error.map(|()| count()),
        // What was read when the interruption came may not have been read to its end.
        None => go_on().map(|()| count()),
    }
}

/// Looks at one directory. Returns the number of its entries, and the directories in it.
///
/// # Errors
/// This process has too many open files or too little memory, which is no fault of the tree.
fn look(
    tree: &Tree,
    rules: &Exclude,
    inspector: &dyn Inspector,
    task: &Task,
    here: &mut WorkingDirectory,
    read: &dyn Fn(u64),
) -> Result<(u64, Vec<Task>), Errno> {
    let unread = |why| match why {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => Err(why),
        why => {
            inspector.unread(&task.path, why);
            Ok((0, Vec::new()))
        }
    };
    let fd = match tree.open_directory(&task.above, &task.name) {
        Ok(fd) => Arc::new(fd),
        // Something else is mounted there. It is not part of the tree.
        Err(Errno::XDEV) => return Ok((0, Vec::new())),
        Err(why) => return unread(why),
    };
    let place = Place { path: &task.path, verdict: task.verdict };
    let listed = list(&fd, place, rules, here, &mut |path: &[u8], why| inspector.unread(path, why));
    let listed = match listed {
        Ok(listed) => listed,
        Err(why) => return unread(why),
    };
    let directories = listed.iter().filter(|entry| entry.kind() == FileType::Directory);
    let below = directories.filter_map(|entry| {
        let path = joined(&task.path, &entry.name);
        let verdict = rules.verdict(&path, task.verdict);
        let task = Task { above: Arc::clone(&fd), name: entry.name.clone(), path, verdict };
        (verdict != Verdict::DirectoryOnly).then_some(task)
    });
    let below = below.collect();
    let count = listed.len() as u64;
    inspector.directory(
        Directory { fd: &fd, path: &task.path, verdict: task.verdict },
        listed,
        read,
    );
    Ok((count, below))
}
