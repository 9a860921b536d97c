//! The quick check of what both trees have: a whole directory at a time, by bare names, without
//! opening a file. An entry that this does not find equal is handed to the openers, like an entry
//! that is missing in the target.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, CWD, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp, makedev,
};

use super::engine::{Engine, Job, LinkRole};
use super::request::Mode;
use crate::timestamp::Timestamp;
use crate::tree::directories::{DirectoryId, InodeId, Side};
use crate::tree::entry::EntryRef;
use crate::tree::entry_error::EntryError;
use crate::tree::links::{FirstName, LinkAction};
use crate::tree::queue::{Queue, lock};
use crate::tree::walk::{Batch, Entry, SourceDirectory};
use crate::tree::working_directory::WorkingDirectory;
use crate::tree::xattr::{Xattr, xattrs_in_working_directory};

/// How many entries are read from one tree before the same entries are read from the other. Their
/// inodes are next to each other on the disk.
const STRETCH: usize = 512;

/// The inode flags that statx(2) returns.
const SHOWN: StatxAttributes = StatxAttributes::COMPRESSED
    .union(StatxAttributes::IMMUTABLE)
    .union(StatxAttributes::APPEND)
    .union(StatxAttributes::NODUMP);

/// The state of an inode, as far as it can be read without opening it.
struct InodeState {
    stat: Statx,
    xattrs: Vec<Xattr>,
}

impl InodeState {
    /// Reads the state of an entry of the thread's working directory. Returns `None` if that fails:
    /// opening the entry will then tell why.
    fn read(name: &CStr, with_xattrs: bool) -> Option<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let stat = rustix::fs::statx(CWD, name, flags, StatxFlags::BASIC_STATS).ok()?;
        let xattrs = if with_xattrs { xattrs_in_working_directory(name).ok()? } else { Vec::new() };
        Some(InodeState { stat, xattrs })
    }
}

fn inode_of(stat: &Statx) -> InodeId {
    InodeId { device: makedev(stat.stx_dev_major, stat.stx_dev_minor), number: stat.stx_ino }
}

fn timestamp(time: &StatxTimestamp) -> Timestamp {
    Timestamp::new(time.tv_sec, time.tv_nsec)
}

impl Engine<'_> {
    /// Compares entries of a directory that both trees have.
    pub(super) fn compare(
        &self,
        here: &mut WorkingDirectory,
        source: SourceDirectory<'_>,
        batch: Batch,
        listed: &Queue<Job>,
    ) -> Result<(), EntryError> {
        let there = if batch.first && self.is_to_be_pruned(source.id) {
            self.prune(source, &batch)?
        } else {
            None
        };
        let target = self
            .directories
            .open(Side::Target, source.id)
            .map_err(|why| EntryError::Target("opening", why))?;
        let mut entries: Vec<Entry> = batch.entries;
        entries.retain(|entry| entry.kind != FileType::Directory);
        let mut left = entries.into_iter();
        let mut stretch: Vec<Entry> = Vec::with_capacity(STRETCH.min(left.len()));
        while left.len() > 0 && !self.stopped() {
            stretch.extend(left.by_ref().take(STRETCH));
            self.compare_stretch(here, source, &target, &mut stretch, there.as_deref(), listed)?;
        }
        Ok(())
    }

    fn compare_stretch(
        &self,
        here: &mut WorkingDirectory,
        source: SourceDirectory<'_>,
        target: &OwnedFd,
        stretch: &mut Vec<Entry>,
        there: Option<&[CString]>,
        listed: &Queue<Job>,
    ) -> Result<(), EntryError> {
        let id = source.id;
        let with_xattrs = self.first_pass.is_none();
        here.change_to(target).map_err(|why| EntryError::Target("entering", why))?;
        let is_there =
            |entry: &Entry| there.is_none_or(|there| there.binary_search(&entry.name).is_ok());
        let theirs: Vec<Option<InodeState>> = stretch
            .iter()
            .map(|e| is_there(e).then(|| InodeState::read(&e.name, with_xattrs)).flatten())
            .collect();
        // If the source's directory cannot be entered, none of its entries counts as equal.
        let entered = here.change_to(source.fd).is_ok();
        let mut done = 0;
        let mut symlinks = Vec::new();
        let mut jobs = Vec::new();
        for (entry, theirs) in stretch.drain(..).zip(theirs) {
            let ours = theirs
                .as_ref()
                .filter(|_| entered)
                .and_then(|_| InodeState::read(&entry.name, with_xattrs));
            let mut role = LinkRole::Unknown;
            if let (Some(ours), Some(theirs)) = (&ours, &theirs)
                && self.is_equal(id, &entry, ours, theirs)
            {
                if entry.kind == FileType::Symlink && self.first_pass.is_none() {
                    if let Ok(text) = rustix::fs::readlinkat(CWD, &*entry.name, Vec::new()) {
                        let single = ours.stat.stx_nlink == 1 && theirs.stat.stx_nlink == 1;
                        symlinks.push((entry, text, single));
                        continue;
                    }
                } else {
                    let entry = EntryRef { directory: id, name: &entry.name };
                    match self.check_links(entry, &ours.stat, &theirs.stat) {
                        LinkCheck::Equal => {
                            done += 1;
                            continue;
                        }
                        LinkCheck::Deferred => continue,
                        LinkCheck::Copy(found) => role = found,
                    }
                }
            }
            jobs.push(Job::new(id, entry, role));
        }
        if !symlinks.is_empty() {
            here.change_to(target).map_err(|why| EntryError::Target("entering", why))?;
        }
        for (entry, text, single) in symlinks {
            let same = rustix::fs::readlinkat(CWD, &*entry.name, Vec::new())
                .is_ok_and(|other| other == text);
            if same && single {
                done += 1;
            } else {
                jobs.push(Job::new(id, entry, LinkRole::Unknown));
            }
        }
        self.files.fetch_add(done as u64, Ordering::Relaxed);
        jobs.into_iter().for_each(|job| listed.push(job));
        if done > 0 {
            self.finish(id, done);
        }
        Ok(())
    }

    /// Whether entries that the source no longer has must be removed from the target's directory.
    fn is_to_be_pruned(&self, id: DirectoryId) -> bool {
        lock(&self.pending).get(&id).is_some_and(|directory| directory.suspect)
    }

    /// Whether the inodes are equal. Their other names, and the texts of symlinks, are not compared
    /// here.
    fn is_equal(
        &self,
        directory: DirectoryId,
        entry: &Entry,
        ours: &InodeState,
        theirs: &InodeState,
    ) -> bool {
        let (a, b) = (&ours.stat, &theirs.stat);
        let sized = matches!(entry.kind, FileType::RegularFile | FileType::Symlink);
        let kept = |s: &Statx| {
            let device = (s.stx_rdev_major, s.stx_rdev_minor);
            (
                s.stx_mode,
                s.stx_uid,
                s.stx_gid,
                device,
                if sized { s.stx_size } else { 0 },
                timestamp(&s.stx_mtime),
            )
        };
        if FileType::from_raw_mode(u32::from(a.stx_mode)) != entry.kind || kept(a) != kept(b) {
            return false;
        }
        if let Some(since) = self.since() {
            // The first pass made it equal, unless it could not read it.
            let entry = EntryRef { directory, name: &entry.name };
            return timestamp(&a.stx_ctime) < since && !self.is_doubtful(entry);
        }
        let shown = a.stx_attributes_mask & b.stx_attributes_mask & SHOWN;
        timestamp(&a.stx_atime) == timestamp(&b.stx_atime)
            && (a.stx_attributes & shown) == (b.stx_attributes & shown)
            && ours.xattrs == theirs.xattrs
            && (entry.kind != FileType::RegularFile || self.is_unchanged(a, b))
    }

    /// Whether neither inode was changed since the target was complete, so that content, and flags
    /// that statx(2) does not return, are still equal.
    fn is_unchanged(&self, ours: &Statx, theirs: &Statx) -> bool {
        let Mode::Refresh(trust) = self.request.mode else { return false };
        let there = timestamp(&theirs.stx_ctime);
        !trust.checksum
            && timestamp(&ours.stx_ctime) < there
            && trust.complete.is_some_and(|complete| there <= complete)
            && trust.interrupted.is_none_or(|session| there < session)
    }

    /// Checks whether an equal entry has the same other names in the target as in the source.
    fn check_links(&self, entry: EntryRef<'_>, ours: &Statx, theirs: &Statx) -> LinkCheck {
        if ours.stx_nlink == 1 && theirs.stx_nlink == 1 {
            return LinkCheck::Equal;
        }
        // The writers add names to the inode, or remove them from it.
        if ours.stx_nlink != theirs.stx_nlink {
            return LinkCheck::Copy(LinkRole::Unknown);
        }
        let inode = inode_of(ours);
        match self.links.register(inode, u64::from(ours.stx_nlink), entry) {
            LinkAction::Create if self.links.claim(inode_of(theirs)) => {
                let first = FirstName { entry: entry.to_entry_name(), inode: theirs.stx_ino };
                let deferred = self.links.settle(inode, Some(&first));
                self.link_deferred(deferred, Some(&first));
                LinkCheck::Equal
            }
            LinkAction::Create => LinkCheck::Copy(LinkRole::First),
            LinkAction::LinkTo(first) if first.inode == theirs.stx_ino => LinkCheck::Equal,
            LinkAction::LinkTo(first) => LinkCheck::Copy(LinkRole::Additional(first)),
            LinkAction::Defer => LinkCheck::Deferred,
            LinkAction::Lost => LinkCheck::Copy(LinkRole::Lost),
        }
    }
}

/// What [`Engine::check_links`] found.
enum LinkCheck {
    /// The names are equal: there is nothing to do.
    Equal,
    /// The thread that is creating the first name links this one.
    Deferred,
    /// The entry must be handed to the openers.
    Copy(LinkRole),
}
