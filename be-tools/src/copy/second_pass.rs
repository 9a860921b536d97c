//! The second pass over a source that is in use: a refresh of what was touched since the first pass
//! began. What changes once more is named.

use std::collections::HashSet;
use std::ffi::CStr;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Stat};

use super::engine::Engine;
use crate::timestamp::Timestamp;
use crate::tree::directories::{Id, Side};
use crate::tree::queue::lock;

/// Content and inode were not touched between the two looks.
fn untouched(before: &Stat, after: &Stat) -> bool {
    let moments = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    moments(before) == moments(after)
}

impl Engine<'_> {
    /// The first pass may not have read it.
    pub(super) fn is_doubtful(&self, directory: Id, name: &CStr) -> bool {
        let is_lost = |lost: &HashSet<PathBuf>| {
            !lost.is_empty() && lost.contains(&self.directories.path_buf(directory, name))
        };
        self.first_pass.as_ref().is_some_and(|first| first.more_lost || is_lost(&first.lost))
    }

    /// Second pass: only what has changed since.
    pub(super) fn since(&self) -> Option<Timestamp> {
        self.first_pass.as_ref().map(|first| first.since)
    }

    /// Looks at the source once more after an entry was copied.
    pub(super) fn compare_after(
        &self,
        (directory, name): (Id, &CStr),
        before: &Stat,
        after: &Stat,
    ) {
        if self.first_pass.is_some() {
            lock(&self.recopied).push((directory, name.to_owned(), *before));
        } else if !self.request.two_pass && !untouched(before, after) {
            self.changed(directory, name);
        }
    }

    /// Names what changed while or after the second pass copied it.
    pub(super) fn look_again(&self) {
        for (directory, name, before) in lock(&self.recopied).drain(..) {
            let now = self
                .directories
                .open(Side::Source, directory)
                .and_then(|at| rustix::fs::statat(&*at, &*name, AtFlags::SYMLINK_NOFOLLOW));
            if !now.is_ok_and(|now| untouched(&before, &now)) {
                self.changed(directory, &name);
            }
        }
    }
}
