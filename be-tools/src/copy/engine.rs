//! What the threads of one walk share, and how they are started and stopped.

use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::request::{Mode, Request, Summary};
use super::temporary::Temporary;
use crate::error::{Error, Result};
use crate::inode_flags::unlock;
use crate::timestamp::Timestamp;
use crate::tree::content::Abilities;
use crate::tree::directories::{Directories, Id, ROOT, Side};
use crate::tree::entry_error::EntryError;
use crate::tree::links::{First, Links};
use crate::tree::metadata::Attributes;
use crate::tree::queue::lock;
use crate::tree::walk::Entry;
use crate::tree::xattr::Place;

/// Lines of a report that are kept of one kind.
const LINES: usize = 10_000;

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

/// What a second pass knows of the first.
#[derive(Debug)]
pub struct FirstPass {
    /// When the first one began.
    pub since: Timestamp,
    /// What it could not read.
    pub lost: HashSet<PathBuf>,
    /// There is more of that than `lost` names.
    pub more_lost: bool,
}

/// One walk.
#[derive(Debug)]
pub struct Engine<'a> {
    pub(super) request: &'a Request<'a>,
    pub(super) directories: Directories,
    /// Second pass: what is known of the first.
    pub(super) first_pass: Option<FirstPass>,
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
    pub(super) walked: AtomicBool,
    pub(super) findings: Mutex<Summary>,
    pub(super) stopped: AtomicBool,
    pub(super) failure: Mutex<Option<Error>>,
}

impl<'a> Engine<'a> {
    /// `first_pass`: this is a second pass.
    pub fn new(
        request: &'a Request<'a>,
        directories: Directories,
        first_pass: Option<FirstPass>,
    ) -> Self {
        Engine {
            request,
            directories,
            first_pass,
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
        self.first_pass.is_none() && matches!(self.request.mode, Mode::Fresh)
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
    pub fn trouble(&self, directory: Id, name: &CStr, trouble: EntryError) {
        match trouble {
            EntryError::Source(Errno::NOENT | Errno::STALE) | EntryError::Stopped => {}
            EntryError::Source(why) => {
                let path = self.directories.path_buf(directory, name);
                log::warn!("{} could not be read: {why}", path.display());
                self.note_line(|s| (&mut s.lost, &mut s.more_lost), path);
            }
            EntryError::Target(doing, why) => {
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
    ) -> Result<(), EntryError> {
        let directory = self
            .directories
            .open(Side::Target, id)
            .map_err(|why| EntryError::Target("opening", why))?;
        let mut note = |what| self.note(id, c"", what);
        if *existed {
            unlock(&directory);
            attributes.apply_early(&directory, true).unwrap_or_else(&mut note);
        }
        attributes
            .apply(Place::Open(&directory), *existed, &mut note)
            .map_err(|why| EntryError::Target("setting attributes of", why))?;
        attributes.apply_late(&directory, *existed).unwrap_or_else(note);
        Ok(())
    }
}

/// The error for a target that cannot be written.
pub(super) fn target_error(target: &Path, path: &Path, doing: &str, why: Errno) -> Error {
    match why {
        Errno::NOSPC | Errno::DQUOT => Error::Failed(format!(
            "{} is full ({doing} {}): use a larger device, or leave files out with --exclude",
            target.display(),
            path.display()
        )),
        _ => Error::Io {
            doing: format!("{doing} {} in {}", path.display(), target.display()),
            source: why.into(),
        },
    }
}
