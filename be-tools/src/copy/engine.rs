//! The state that the threads of one copying walk share.

use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::request::{CopyRequest, Mode, Summary};
use super::temporary::TemporaryNames;
use crate::error::{Error, Result};
use crate::inode_flags::unlock;
use crate::timestamp::Timestamp;
use crate::tree::content::Abilities;
use crate::tree::directories::{Directories, DirectoryId, ROOT, Side};
use crate::tree::entry::{EntryName, EntryRef};
use crate::tree::entry_error::EntryError;
use crate::tree::links::{FirstName, Links};
use crate::tree::metadata::Attributes;
use crate::tree::queue::lock;
use crate::tree::walk::Entry;
use crate::tree::xattr::InodeRef;

/// How many lines of each kind a report keeps.
const LINES: usize = 10_000;

/// What is known about the other names of an entry's inode.
#[derive(Debug)]
pub enum LinkRole {
    /// Nothing yet.
    Unknown,
    /// The entry is the first name of its inode, and the target's inode of that name is already the
    /// counterpart of another one.
    First,
    /// The entry is to be linked to this name.
    Additional(FirstName),
    /// The first name of its inode could not be copied.
    Lost,
}

/// An entry that is being copied. The walker creates directories itself.
#[derive(Debug)]
pub struct Job {
    /// The entry.
    pub entry: EntryName,
    /// Its type, according to the listing.
    pub kind: FileType,
    /// What is known about the other names of its inode.
    pub role: LinkRole,
    /// Set by the openers.
    pub opened: Option<OpenedEntry>,
}

/// What an opener finds out about an entry.
#[derive(Debug)]
pub struct OpenedEntry {
    /// Its inode.
    pub stat: Stat,
    /// The open file, if it is a regular file.
    pub file: Option<OwnedFd>,
}

impl Job {
    /// Makes a job for an entry that was listed, to be opened next.
    pub fn new(directory: DirectoryId, entry: Entry, role: LinkRole) -> Self {
        let Entry { name, kind, .. } = entry;
        Job { entry: EntryName { directory, name }, kind, role, opened: None }
    }
}

/// How far a walk has come.
#[derive(Clone, Copy, Debug)]
pub struct Count {
    /// Entries that are done.
    pub files: u64,
    /// Bytes of content that were written.
    pub bytes: u64,
    /// All entries of the tree, once the walk has found the last one.
    pub total_files: Option<u64>,
}

/// An open directory of the target.
#[derive(Clone, Copy, Debug)]
pub struct TargetDirectory<'a> {
    /// Its number.
    pub id: DirectoryId,
    /// The open directory.
    pub fd: &'a OwnedFd,
}

/// A directory of the target that is still being filled.
#[derive(Debug)]
pub struct PendingDirectory {
    /// The attributes it gets once it is complete.
    pub attributes: Attributes,
    /// Whether the target had the directory before.
    pub existed: bool,
    /// Whether its attributes must be set, because they differ from the source's or because
    /// something in the directory was changed.
    pub touched: bool,
    /// Whether it may have entries that the source does not have, and that must be removed.
    pub suspect: bool,
}

/// What the second pass knows of the first.
#[derive(Debug)]
pub struct FirstPass {
    /// When the first pass began.
    pub since: Timestamp,
    /// What the first pass could not read.
    pub lost: HashSet<PathBuf>,
    /// Whether it could not read more than `lost` names.
    pub more_lost: bool,
}

/// A file whose last flags are set at the end, because they would keep other names of it from being
/// created.
#[derive(Debug)]
pub struct LockedFile {
    /// One of its names.
    pub entry: EntryName,
    /// The flags.
    pub flags: u32,
}

/// A name that was deferred while the first name of its inode was created, and then did not fit:
/// the inode has as many names as the target's file system allows.
#[derive(Debug)]
pub struct UnlinkedName {
    /// The name.
    pub entry: EntryName,
    /// The first name of the inode that is full.
    pub full: FirstName,
}

/// An entry that the second pass copied.
#[derive(Debug)]
pub struct RecopiedEntry {
    /// The entry.
    pub entry: EntryName,
    /// Its inode before it was copied.
    pub before: Stat,
}

/// One copying walk.
#[derive(Debug)]
pub struct Engine<'a> {
    pub(super) request: &'a CopyRequest<'a>,
    pub(super) directories: Directories,
    /// Set in a second pass.
    pub(super) first_pass: Option<FirstPass>,
    pub(super) links: Links,
    pub(super) abilities: Abilities,
    pub(super) pending: Mutex<HashMap<DirectoryId, PendingDirectory>>,
    pub(super) locked: Mutex<Vec<LockedFile>>,
    /// Names that found their inode full, and are linked at the end.
    pub(super) unlinked: Mutex<Vec<UnlinkedName>>,
    pub(super) temporary: TemporaryNames,
    pub(super) recopied: Mutex<Vec<RecopiedEntry>>,
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) hard_links: AtomicU64,
    pub(super) changed: AtomicU64,
    pub(super) removed: AtomicU64,
    /// Entries that the walk has found so far.
    pub(super) found: AtomicU64,
    /// Whether the walk has found all entries.
    pub(super) walked: AtomicBool,
    pub(super) findings: Mutex<Summary>,
    pub(super) stopped: AtomicBool,
    pub(super) failure: Mutex<Option<Error>>,
}

impl<'a> Engine<'a> {
    /// Makes an engine for a second pass if `first_pass` is given, otherwise for the first.
    pub fn new(
        request: &'a CopyRequest<'a>,
        directories: Directories,
        first_pass: Option<FirstPass>,
    ) -> Self {
        Engine {
            request,
            directories,
            first_pass,
            links: Links::default(),
            abilities: Abilities::default(),
            pending: Mutex::default(),
            locked: Mutex::default(),
            unlinked: Mutex::default(),
            temporary: TemporaryNames::new(),
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

    /// Whether the target is to be filled from nothing: what is in the way is removed, and nothing
    /// is compared.
    pub(super) fn is_fresh(&self) -> bool {
        self.first_pass.is_none() && matches!(self.request.mode, Mode::Fresh)
    }

    /// Returns what was found and done.
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

    /// Whether the threads are to stop.
    pub fn stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Stops the copy. The first error is the one that is reported.
    pub fn fail(&self, error: Error) {
        self.stopped.store(true, Ordering::Relaxed);
        lock(&self.failure).get_or_insert(error);
    }

    /// The path of an entry in the boot environment.
    pub(super) fn path_of(&self, entry: EntryRef<'_>) -> PathBuf {
        self.directories.path_buf(entry.directory, entry.name)
    }

    /// Handles the error of one entry. An entry that is gone is ignored, an unreadable one is
    /// reported, and any other error ends the copy.
    pub fn handle_error(&self, entry: EntryRef<'_>, error: EntryError) {
        match error {
            EntryError::Source(Errno::NOENT | Errno::STALE) | EntryError::Stopped => {}
            EntryError::Source(why) => {
                let path = self.path_of(entry);
                log::warn!("{} could not be read: {why}", path.display());
                self.add_line(|s| (&mut s.lost, &mut s.more_lost), path);
            }
            EntryError::Lost(why) => {
                self.remark(entry, why);
                let path = self.path_of(entry);
                self.add_line(|s| (&mut s.lost, &mut s.more_lost), path);
            }
            EntryError::Target(doing, why) => {
                let path = self.path_of(entry);
                self.fail(target_error(self.request.target, &path, doing, why));
            }
        }
    }

    /// Reports what the target's file system cannot hold.
    pub fn report_not_representable(&self, entry: EntryRef<'_>, what: String) {
        let path = self.path_of(entry);
        log::warn!("{}: the target cannot hold {what}", path.display());
        self.add_line(|s| (&mut s.not_representable, &mut s.more_not_representable), (path, what));
    }

    /// Reports something else about the entry.
    pub(super) fn remark(&self, entry: EntryRef<'_>, what: &str) {
        self.remark_on_path(self.path_of(entry), what);
    }

    /// As [`Engine::remark`], for a path in the boot environment.
    pub(super) fn remark_on_path(&self, path: PathBuf, what: &str) {
        log::warn!("{}: {what}", path.display());
        self.add_line(|s| (&mut s.remarks, &mut s.more_remarks), (path, what.to_owned()));
    }

    /// Reports that the entry was written to while it was copied.
    pub fn report_changed(&self, entry: EntryRef<'_>) {
        let path = self.path_of(entry);
        self.add_line(|s| (&mut s.changed_during_copy, &mut s.more_changed), path);
    }

    fn add_line<T>(&self, list: impl FnOnce(&mut Summary) -> (&mut Vec<T>, &mut usize), line: T) {
        let mut findings = lock(&self.findings);
        let (list, more) = list(&mut findings);
        if list.len() < LINES {
            list.push(line);
        } else {
            *more += 1;
        }
    }

    /// Says that `entries` entries of `directory` are done. Directories that are complete then get
    /// their attributes.
    pub fn finish(&self, directory: DirectoryId, entries: usize) {
        let (mut at, mut entries) = (directory, entries);
        while self.directories.done(at, entries) {
            let pending = lock(&self.pending).remove(&at);
            if let Some(pending) = pending
                && pending.touched
                && !self.stopped()
                && let Err(error) = self.complete(at, &pending)
            {
                self.handle_error(EntryRef { directory: at, name: c"" }, error);
            }
            self.directories.close(at);
            if at == ROOT {
                break;
            }
            at = self.directories.parent(at);
            entries = 1;
        }
    }

    /// Notes that something in a directory of the target was changed.
    pub(super) fn touch(&self, directory: DirectoryId) {
        if let Some(pending) = lock(&self.pending).get_mut(&directory) {
            pending.touched = true;
        }
    }

    fn complete(
        &self,
        id: DirectoryId,
        PendingDirectory { attributes, existed, .. }: &PendingDirectory,
    ) -> Result<(), EntryError> {
        let directory = self
            .directories
            .open(Side::Target, id)
            .map_err(|why| EntryError::Target("opening", why))?;
        let entry = EntryRef { directory: id, name: c"" };
        let mut note = |what| self.report_not_representable(entry, what);
        if *existed {
            unlock(&directory);
            attributes.apply_early(&directory, true).unwrap_or_else(&mut note);
        }
        attributes
            .apply(InodeRef::Open(&directory), *existed, &mut note)
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
