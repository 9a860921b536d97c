//! The quick look at what is in both trees: whole directories at a time, by bare names, without
//! opening a file. What this cannot call equal goes the way of everything that has to be made.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{
    AtFlags, CWD, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp, makedev,
};

use super::engine::{Engine, Job, Role};
use super::request::Mode;
use crate::tree::directories::{Id, Side};
use crate::tree::entry_error::EntryError;
use crate::tree::exclude::Verdict;
use crate::tree::links::{First, Meeting};
use crate::tree::queue::{Queue, lock};
use crate::tree::walk::{Batch, Entry};
use crate::tree::working_directory::Standpoint;
use crate::tree::xattr::{Xattr, xattrs_here};

/// Entries that are looked at in one tree before the other: their inodes lie together.
const STRETCH: usize = 512;

/// What statx(2) tells of the inode flags.
const SHOWN: StatxAttributes = StatxAttributes::COMPRESSED
    .union(StatxAttributes::IMMUTABLE)
    .union(StatxAttributes::APPEND)
    .union(StatxAttributes::NODUMP);

/// An inode, seen by name.
struct Look {
    inode: Statx,
    xattrs: Vec<Xattr>,
}

impl Look {
    /// Of an entry of the directory that the thread stands in; `None`: it takes a closer look.
    fn at(name: &CStr, xattrs: bool) -> Option<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let inode = rustix::fs::statx(CWD, name, flags, StatxFlags::BASIC_STATS).ok()?;
        let xattrs = if xattrs { xattrs_here(name).ok()? } else { Vec::new() };
        Some(Look { inode, xattrs })
    }
}

fn moment(t: &StatxTimestamp) -> (i64, u32) {
    (t.tv_sec, t.tv_nsec)
}

impl Engine<'_> {
    /// Compares the entries of a directory that exists in both trees.
    pub(super) fn compare(
        &self,
        here: &mut Standpoint,
        (id, source, verdict): (Id, &Arc<OwnedFd>, Verdict),
        batch: Batch,
        listed: &Queue<Job>,
    ) -> Result<(), EntryError> {
        let there = if batch.first && self.prunes(id) {
            self.prune((id, source, verdict), &batch)?
        } else {
            None
        };
        let target = self
            .directories
            .open(Side::Target, id)
            .map_err(|why| EntryError::Target("opening", why))?;
        let mut entries: Vec<Entry> = batch.entries;
        entries.retain(|entry| entry.kind != FileType::Directory);
        let mut left = entries.into_iter();
        let mut stretch: Vec<Entry> = Vec::with_capacity(STRETCH.min(left.len()));
        while left.len() > 0 && !self.stopped() {
            stretch.extend(left.by_ref().take(STRETCH));
            self.compare_stretch(
                here,
                (id, source, &target),
                &mut stretch,
                there.as_deref(),
                listed,
            )?;
        }
        Ok(())
    }

    fn compare_stretch(
        &self,
        here: &mut Standpoint,
        (id, source, target): (Id, &OwnedFd, &OwnedFd),
        stretch: &mut Vec<Entry>,
        there: Option<&[CString]>,
        listed: &Queue<Job>,
    ) -> Result<(), EntryError> {
        let xattrs = self.first_pass.is_none();
        here.go(target).map_err(|why| EntryError::Target("entering", why))?;
        let is_there =
            |entry: &Entry| there.is_none_or(|there| there.binary_search(&entry.name).is_ok());
        let theirs: Vec<Option<Look>> = stretch
            .iter()
            .map(|e| is_there(e).then(|| Look::at(&e.name, xattrs)).flatten())
            .collect();
        // A directory that cannot be entered is one in which nothing is equal.
        let entered = here.go(source).is_ok();
        let mut done = 0;
        let mut symbolic = Vec::new();
        let mut jobs = Vec::new();
        for (entry, theirs) in stretch.drain(..).zip(theirs) {
            let ours =
                theirs.as_ref().filter(|_| entered).and_then(|_| Look::at(&entry.name, xattrs));
            let mut role = Role::Unmet;
            if let (Some(ours), Some(theirs)) = (&ours, &theirs)
                && self.is_equal(id, &entry, ours, theirs)
            {
                if entry.kind == FileType::Symlink && self.first_pass.is_none() {
                    if let Ok(text) = rustix::fs::readlinkat(CWD, &*entry.name, Vec::new()) {
                        symbolic.push((entry, text, ours.inode.stx_nlink, theirs.inode.stx_nlink));
                        continue;
                    }
                } else {
                    match self.is_grouped((id, &entry.name), &ours.inode, &theirs.inode) {
                        Some(Grouping::Settled) => {
                            done += 1;
                            continue;
                        }
                        Some(Grouping::Parked) => continue,
                        Some(Grouping::Role(met)) => role = met,
                        None => {}
                    }
                }
            }
            jobs.push(Job::new(id, entry, role));
        }
        if !symbolic.is_empty() {
            here.go(target).map_err(|why| EntryError::Target("entering", why))?;
        }
        for (entry, text, ours, theirs) in symbolic {
            let same = rustix::fs::readlinkat(CWD, &*entry.name, Vec::new())
                .is_ok_and(|other| other == text);
            if same && ours == 1 && theirs == 1 {
                done += 1;
            } else {
                jobs.push(Job::new(id, entry, Role::Unmet));
            }
        }
        self.files.fetch_add(done as u64, Ordering::Relaxed);
        jobs.into_iter().for_each(|job| listed.push(job));
        if done > 0 {
            self.finish(id, done);
        }
        Ok(())
    }

    /// What the source's directory has no more is removed from the target's.
    fn prunes(&self, id: Id) -> bool {
        lock(&self.unfinished).get(&id).is_some_and(|directory| directory.suspect)
    }

    /// Nothing of the inodes differs, apart from what they are linked to.
    fn is_equal(&self, directory: Id, entry: &Entry, ours: &Look, theirs: &Look) -> bool {
        let (a, b) = (&ours.inode, &theirs.inode);
        let sized = matches!(entry.kind, FileType::RegularFile | FileType::Symlink);
        let kept = |s: &Statx| {
            let device = (s.stx_rdev_major, s.stx_rdev_minor);
            (
                s.stx_mode,
                s.stx_uid,
                s.stx_gid,
                device,
                if sized { s.stx_size } else { 0 },
                moment(&s.stx_mtime),
            )
        };
        if FileType::from_raw_mode(u32::from(a.stx_mode)) != entry.kind || kept(a) != kept(b) {
            return false;
        }
        if let Some(since) = self.since() {
            // The first pass made it equal, if it could read it.
            return !since.reached(moment(&a.stx_ctime))
                && !self.is_doubtful(directory, &entry.name);
        }
        let shown = a.stx_attributes_mask & b.stx_attributes_mask & SHOWN;
        moment(&a.stx_atime) == moment(&b.stx_atime)
            && (a.stx_attributes & shown) == (b.stx_attributes & shown)
            && ours.xattrs == theirs.xattrs
            && (entry.kind != FileType::RegularFile || self.is_quiet(a, b))
    }

    /// Neither inode was changed since the target was complete: content and hidden flags are as
    /// they were made.
    fn is_quiet(&self, ours: &Statx, theirs: &Statx) -> bool {
        let Mode::Refresh(trust) = self.request.mode else { return false };
        let there = moment(&theirs.stx_ctime);
        !trust.checksum
            && moment(&ours.stx_ctime) < there
            && trust.complete.is_some_and(|complete| !complete.is_before(there))
            && trust.interrupted.is_none_or(|session| !session.reached(there))
    }

    /// Whether an equal entry has the right names beside it; `None`: it takes a closer look.
    fn is_grouped(&self, place: (Id, &CStr), ours: &Statx, theirs: &Statx) -> Option<Grouping> {
        if ours.stx_nlink == 1 && theirs.stx_nlink == 1 {
            return Some(Grouping::Settled);
        }
        // Other names are added to, or taken from, an equal inode by who looks closer.
        if ours.stx_nlink != theirs.stx_nlink {
            return None;
        }
        let number = |s: &Statx| (makedev(s.stx_dev_major, s.stx_dev_minor), s.stx_ino);
        let inode = number(ours);
        Some(match self.links.meet(inode, u64::from(ours.stx_nlink), place) {
            Meeting::First if self.links.claim(number(theirs)) => {
                let early = self.links.settle(inode, Some((place, theirs.stx_ino)));
                self.link_early(
                    early,
                    Some(&First { name: (place.0, place.1.to_owned()), inode: theirs.stx_ino }),
                );
                Grouping::Settled
            }
            Meeting::First => Grouping::Role(Role::First),
            Meeting::Further(first) if first.inode == theirs.stx_ino => Grouping::Settled,
            Meeting::Further(first) => Grouping::Role(Role::Further(first)),
            Meeting::Parked => Grouping::Parked,
            Meeting::Lost => Grouping::Role(Role::Lost),
        })
    }
}

enum Grouping {
    /// There is nothing to do.
    Settled,
    /// Somebody else does it.
    Parked,
    /// It is to be made, as this.
    Role(Role),
}
