//! The second pass over a source that is in use. It refreshes what was changed since the first pass
//! began, and reports what changes again while it is being copied.

use std::collections::HashSet;

use std::path::PathBuf;

use rustix::fs::{AtFlags, Stat};

use super::engine::{Engine, RecopiedEntry};
use crate::timestamp::Timestamp;
use crate::tree::directories::Side;
use crate::tree::entry::EntryRef;
use crate::tree::queue::lock;

/// Whether neither content nor inode was changed between two calls of stat(2).
fn untouched(before: &Stat, after: &Stat) -> bool {
    let state = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    state(before) == state(after)
}

impl Engine<'_> {
    /// Whether the first pass may not have been able to read the entry.
    pub(super) fn is_doubtful(&self, entry: EntryRef<'_>) -> bool {
        let is_lost =
            |lost: &HashSet<PathBuf>| !lost.is_empty() && lost.contains(&self.path_of(entry));
        self.first_pass.as_ref().is_some_and(|first| first.more_lost || is_lost(&first.lost))
    }

    /// In a second pass, the time since which changes matter.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.first_pass.as_ref().map(|first| first.since)
    }

    /// Checks whether the source was changed while an entry was copied. In a second pass this is
    /// done at the end.
    pub(super) fn check_after_copy(&self, entry: EntryRef<'_>, before: &Stat, after: &Stat) {
        if self.first_pass.is_some() {
            let recopied = RecopiedEntry { entry: entry.to_entry_name(), before: *before };
            lock(&self.recopied).push(recopied);
        } else if !self.request.two_pass && !untouched(before, after) {
            self.report_changed(entry);
        }
    }

    /// Reports what changed during or after the second pass.
    pub(super) fn check_recopied(&self) {
        for RecopiedEntry { entry, before } in lock(&self.recopied).drain(..) {
            let now = self
                .directories
                .open(Side::Source, entry.directory)
                .and_then(|at| rustix::fs::statat(&*at, &*entry.name, AtFlags::SYMLINK_NOFOLLOW));
            if !now.is_ok_and(|now| untouched(&before, &now)) {
                self.report_changed(entry.by_ref());
            }
        }
    }
}
