//! The second pass over a source that is in use: a refresh of what was touched since the first pass
//! began. What changes once more is named.

use std::collections::HashSet;
use std::ffi::CStr;
use std::path::PathBuf;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{AtFlags, Stat};
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

use super::directories::{Id, Side};
use super::engine::Engine;
use super::queue::lock;

/// A moment on the clock of inode changes: seconds, nanoseconds. As text it is RFC 3339, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Instant(i64, i64);

/// The clock that the kernel stamps inodes with moves in steps of up to 10 ms.
const STEP: i64 = 20_000_000;

impl TryFrom<String> for Instant {
    type Error = humantime::TimestampError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let since_1970 =
            humantime::parse_rfc3339(&text)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
        Ok(Instant(seconds, i64::from(since_1970.subsec_nanos())))
    }
}

impl From<Instant> for String {
    fn from(Instant(seconds, nanoseconds): Instant) -> String {
        let since_1970 = Duration::new(
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanoseconds.clamp(0, 999_999_999)).unwrap_or(0),
        );
        humantime::format_rfc3339_nanos(UNIX_EPOCH + since_1970).to_string()
    }
}

impl Instant {
    /// Now, as the kernel stamps inodes.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        Instant(now.tv_sec, now.tv_nsec)
    }

    /// A little before it: what was stamped in the same step of the clock belongs to it.
    pub fn earlier(self) -> Self {
        match self.1 - STEP {
            nanoseconds if nanoseconds < 0 => Instant(self.0 - 1, nanoseconds + 1_000_000_000),
            nanoseconds => Instant(self.0, nanoseconds),
        }
    }

    /// Seconds and nanoseconds of an inode's change.
    pub fn of(stat: &Stat) -> Self {
        Instant(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0))
    }

    /// The inode has been changed at this moment or later.
    pub fn reached_by(self, stat: &Stat) -> bool {
        Self::of(stat) >= self
    }

    /// That moment is this one or later.
    pub fn reached(self, (seconds, nanoseconds): (i64, u32)) -> bool {
        Instant(seconds, i64::from(nanoseconds)) >= self
    }

    /// That moment is later.
    pub fn is_before(self, (seconds, nanoseconds): (i64, u32)) -> bool {
        Instant(seconds, i64::from(nanoseconds)) > self
    }
}

/// What a second pass knows of the first.
#[derive(Debug)]
pub struct Again {
    /// When the first one began.
    pub since: Instant,
    /// What it could not read.
    pub lost: HashSet<PathBuf>,
    /// There is more of that than `lost` names.
    pub more_lost: bool,
}

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
        self.again.as_ref().is_some_and(|again| again.more_lost || is_lost(&again.lost))
    }

    /// Second pass: only what has changed since.
    pub(super) fn since(&self) -> Option<Instant> {
        self.again.as_ref().map(|again| again.since)
    }

    /// Looks at the source once more after an entry was copied.
    pub(super) fn compare_after(
        &self,
        (directory, name): (Id, &CStr),
        before: &Stat,
        after: &Stat,
    ) {
        if self.again.is_some() {
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
