//! What the threads of one walk share, and how they are started and stopped.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::content::{Abilities, Content};
use super::directories::{Directories, Id, ROOT, Side};
use super::links::{First, Links};
use super::metadata::Attributes;
use super::place::Place;
use super::queue::{Queue, lock};
use super::temporary::Temporary;
use super::walk::Entry;
use super::{Mode, Request, Summary, Trouble, again, target_error, walk};
use crate::error::{Error, Result};
use crate::flags::unlock;

/// Threads that open files and have them read ahead: what the disk can order at a time.
const OPENERS: usize = 8;

/// Threads that make entries.
const WRITERS: usize = 3;

/// Entries listed and not yet opened.
const LISTED: usize = 2048;

/// Files open and not yet copied; their content is being read ahead.
const OPENED: usize = 256;

/// Content after which the target's device is set to work: otherwise the kernel keeps most of it
/// for the last sync.
const FLUSH: u64 = 64 * 1024 * 1024;

/// Lines of a report that are kept of one kind.
const LINES: usize = 10_000;

/// How often progress is told and signals are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Threads that compare two trees: one a processor and a few more that wait for the disks.
const COMPARERS: usize = 4;

/// What is known of an entry's other names.
#[derive(Debug)]
pub enum Role {
    /// Nothing.
    Unmet,
    /// It is the first name of its inode, and what the target has there belongs to another.
    First,
    /// It is to be a name of this one.
    Further(First),
    /// The first name of its inode could not be copied.
    Lost,
}

/// An entry on its way. Directories are made by the walker.
#[derive(Debug)]
pub struct Job {
    /// The directory it is in.
    pub directory: Id,
    /// Its name.
    pub name: CString,
    /// As the listing said.
    pub kind: FileType,
    /// Its other names.
    pub role: Role,
    /// Set by the openers: its state, and for a regular file its content.
    pub found: Option<(Stat, Option<OwnedFd>)>,
}

impl Job {
    /// An entry that was listed, to be opened.
    pub fn new(directory: Id, entry: Entry, role: Role) -> Self {
        Job { directory, name: entry.name, kind: entry.kind, role, found: None }
    }
}

/// How far a walk is.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Entries that are as they should be.
    pub files: u64,
    /// Bytes of content that were written.
    pub bytes: u64,
    /// Entries in all, once the walk is at its end.
    pub total_files: Option<u64>,
}

/// A directory of the target that is still being filled.
#[derive(Debug)]
pub struct Unfinished {
    /// What it gets once nothing is made in it any more.
    pub attributes: Attributes,
    /// It was there before.
    pub existed: bool,
    /// It is not as the source's: its attributes differ, or something in it was changed.
    pub touched: bool,
    /// What is in the target and not in the source must go.
    pub suspect: bool,
}

/// One walk.
#[derive(Debug)]
pub struct Engine<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) directories: Directories,
    /// Second pass: what is known of the first.
    pub(super) again: Option<again::Again>,
    pub(super) links: Links,
    pub(super) abilities: Abilities,
    pub(super) unfinished: Mutex<HashMap<Id, Unfinished>>,
    /// Files with several names and the flags that forbid to make further ones.
    pub(super) locked: Mutex<Vec<(Id, CString, u32)>>,
    pub(super) temporary: Temporary,
    /// What the second pass copied.
    pub(super) recopied: Mutex<Vec<(Id, CString, Stat)>>,
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) hard_links: AtomicU64,
    pub(super) changed: AtomicU64,
    pub(super) removed: AtomicU64,
    /// Entries that the walk has found, and whether it is at its end.
    pub(super) found: AtomicU64,
    walked: AtomicBool,
    findings: Mutex<Summary>,
    stopped: AtomicBool,
    failure: Mutex<Option<Error>>,
}

impl<'a> Engine<'a> {
    /// `again`: this is a second pass.
    pub fn new(
        request: &'a Request<'a>,
        directories: Directories,
        again: Option<again::Again>,
    ) -> Self {
        Engine {
            request,
            directories,
            again,
            links: Links::default(),
            abilities: Abilities::default(),
            unfinished: Mutex::default(),
            locked: Mutex::default(),
            temporary: Temporary::new(),
            recopied: Mutex::default(),
            files: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            hard_links: AtomicU64::new(0),
            changed: AtomicU64::new(0),
            removed: AtomicU64::new(0),
            found: AtomicU64::new(0),
            walked: AtomicBool::new(false),
            findings: Mutex::default(),
            stopped: AtomicBool::new(false),
            failure: Mutex::default(),
        }
    }

    /// The target begins empty: what is in the way goes, and nothing is compared.
    pub(super) fn is_fresh(&self) -> bool {
        self.again.is_none() && matches!(self.request.mode, Mode::Fresh)
    }

    /// Does the whole walk; `tick` hears how far it is and may end it.
    pub fn run(&self, tick: &mut dyn FnMut(Count) -> Result<()>) -> Result<()> {
        let listed = Queue::new(LISTED, 1);
        let opened = Queue::new(OPENED, OPENERS);
        let writing = AtomicUsize::new(WRITERS);
        let caller = std::thread::current();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let sink = super::tree::Planter { engine: self, listed: &listed };
                // What is copied is best read in the order of the walk.
                let threads = if self.is_fresh() { 1 } else { COMPARERS };
                if let Err(error) =
                    walk::walk(&self.directories, &self.request.exclude, &sink, threads)
                {
                    self.fail(error);
                }
                self.walked.store(true, Ordering::Relaxed);
                listed.leave();
            });
            for _ in 0..OPENERS {
                scope.spawn(|| {
                    while let Some(job) = listed.pop() {
                        if let Some(job) = self.open(job) {
                            opened.push(job);
                        }
                    }
                    opened.leave();
                });
            }
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    let stop = || self.stopped();
                    let moved = |bytes| {
                        self.bytes.fetch_add(bytes, Ordering::Relaxed);
                    };
                    let mut content = Content::new(&self.abilities, &stop, &moved);
                    while let Some(job) = opened.pop() {
                        self.write(job, &mut content);
                    }
                    if writing.fetch_sub(1, Ordering::Release) == 1 {
                        caller.unpark();
                    }
                });
            }
            scope.spawn(|| self.keep_flushing(&writing));
            while writing.load(Ordering::Acquire) > 0 {
                std::thread::park_timeout(TICK);
                if !self.stopped()
                    && let Err(error) = tick(self.count())
                {
                    self.fail(error);
                }
            }
        });
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        self.lock_files()?;
        self.look_again();
        tick(self.count())
    }

    fn count(&self) -> Count {
        let walked = self.walked.load(Ordering::Relaxed);
        Count {
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            total_files: walked.then(|| self.found.load(Ordering::Relaxed)),
        }
    }

    fn keep_flushing(&self, writing: &AtomicUsize) {
        let mut flushed = 0;
        while writing.load(Ordering::Acquire) > 0 && !self.stopped() {
            std::thread::sleep(TICK / 4);
            let copied = self.bytes.load(Ordering::Relaxed);
            if copied - flushed < FLUSH {
                continue;
            }
            flushed = copied;
            let synced = self
                .directories
                .open(Side::Target, ROOT)
                .and_then(|target| rustix::fs::syncfs(&*target));
            if let Err(why) = synced {
                self.trouble(ROOT, c"", Trouble::Target("writing", why));
            }
        }
    }

    /// What was found and done.
    pub fn into_summary(self) -> Summary {
        let findings =
            self.findings.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        Summary {
            files: self.files.into_inner(),
            bytes: self.bytes.into_inner(),
            hard_links: self.hard_links.into_inner(),
            changed: self.changed.into_inner(),
            removed: self.removed.into_inner(),
            ..findings
        }
    }

    /// All threads let what they hold go.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// The first error ends the copy.
    pub fn fail(&self, error: Error) {
        self.stopped.store(true, Ordering::Relaxed);
        lock(&self.failure).get_or_insert(error);
    }

    /// Sorts one entry's trouble: gone is nothing, unreadable is a line, the rest is the end.
    pub fn trouble(&self, directory: Id, name: &CStr, trouble: Trouble) {
        match trouble {
            Trouble::Source(Errno::NOENT | Errno::STALE) | Trouble::Stopped => {}
            Trouble::Source(why) => {
                let path = self.directories.path_buf(directory, name);
                log::warn!("{} could not be read: {why}", path.display());
                self.note_line(|s| (&mut s.lost, &mut s.more_lost), path);
            }
            Trouble::Target(doing, why) => {
                let path = self.directories.path_buf(directory, name);
                self.fail(target_error(self.request.target, &path, doing, why));
            }
        }
    }

    /// A line for what the target cannot hold.
    pub fn note(&self, directory: Id, name: &CStr, what: String) {
        let path = self.directories.path_buf(directory, name);
        log::warn!("{}: the target cannot hold {what}", path.display());
        self.note_line(|s| (&mut s.not_representable, &mut s.more_not_representable), (path, what));
    }

    /// The entry was written to while it was copied.
    pub fn changed(&self, directory: Id, name: &CStr) {
        let path: PathBuf = self.directories.path_buf(directory, name);
        self.note_line(|s| (&mut s.changed_during_copy, &mut s.more_changed), path);
    }

    fn note_line<T>(&self, list: impl FnOnce(&mut Summary) -> (&mut Vec<T>, &mut usize), line: T) {
        let mut findings = lock(&self.findings);
        let (list, more) = list(&mut findings);
        if list.len() < LINES {
            list.push(line);
        } else {
            *more += 1;
        }
    }

    /// So many entries less in `directory`; directories that are complete get their attributes.
    pub fn finish(&self, directory: Id, entries: usize) {
        let (mut at, mut entries) = (directory, entries);
        while self.directories.done(at, entries) {
            let unfinished = lock(&self.unfinished).remove(&at);
            if let Some(unfinished) = unfinished
                && unfinished.touched
                && !self.stopped()
                && let Err(trouble) = self.complete(at, &unfinished)
            {
                self.trouble(at, c"", trouble);
            }
            self.directories.close(at);
            if at == ROOT {
                break;
            }
            at = self.directories.parent(at);
            entries = 1;
        }
    }

    /// Something in the target's directory was changed.
    pub(super) fn touch(&self, directory: Id) {
        if let Some(unfinished) = lock(&self.unfinished).get_mut(&directory) {
            unfinished.touched = true;
        }
    }

    fn complete(
        &self,
        id: Id,
        Unfinished { attributes, existed, .. }: &Unfinished,
    ) -> Result<(), Trouble> {
        let directory = self
            .directories
            .open(Side::Target, id)
            .map_err(|why| Trouble::Target("opening", why))?;
        let mut note = |what| self.note(id, c"", what);
        if *existed {
            unlock(&directory);
            attributes.apply_early(&directory, true).unwrap_or_else(&mut note);
        }
        attributes
            .apply(Place::Open(&directory), *existed, &mut note)
            .map_err(|why| Trouble::Target("setting attributes of", why))?;
        attributes.apply_late(&directory, *existed).unwrap_or_else(note);
        Ok(())
    }
}
