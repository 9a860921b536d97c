//! Moments on the clock that the kernel stamps inodes with (`CLOCK_REALTIME_COARSE`,
//! clock_gettime(2)), as RFC 3339 in a descriptor.

use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::Stat;
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

/// A moment on the clock of inode changes: seconds, nanoseconds. As text it is RFC 3339, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64, i64);

/// The clock that the kernel stamps inodes with moves in steps of up to 10 ms.
const STEP: i64 = 20_000_000;

impl TryFrom<String> for Timestamp {
    type Error = humantime::TimestampError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let since_1970 =
            humantime::parse_rfc3339(&text)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
        Ok(Timestamp(seconds, i64::from(since_1970.subsec_nanos())))
    }
}

impl From<Timestamp> for String {
    fn from(Timestamp(seconds, nanoseconds): Timestamp) -> String {
        let since_1970 = Duration::new(
            u64::try_from(seconds).unwrap_or(0),
            u32::try_from(nanoseconds.clamp(0, 999_999_999)).unwrap_or(0),
        );
        humantime::format_rfc3339_nanos(UNIX_EPOCH + since_1970).to_string()
    }
}

impl Timestamp {
    /// Now, as the kernel stamps inodes.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        Timestamp(now.tv_sec, now.tv_nsec)
    }

    /// A little before it: what was stamped in the same step of the clock belongs to it.
    pub fn earlier(self) -> Self {
        match self.1 - STEP {
            nanoseconds if nanoseconds < 0 => Timestamp(self.0 - 1, nanoseconds + 1_000_000_000),
            nanoseconds => Timestamp(self.0, nanoseconds),
        }
    }

    /// Seconds and nanoseconds of an inode's change.
    pub fn of(stat: &Stat) -> Self {
        Timestamp(stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0))
    }

    /// The inode has been changed at this moment or later.
    pub fn reached_by(self, stat: &Stat) -> bool {
        Self::of(stat) >= self
    }

    /// That moment is this one or later.
    pub fn reached(self, (seconds, nanoseconds): (i64, u32)) -> bool {
        Timestamp(seconds, i64::from(nanoseconds)) >= self
    }

    /// That moment is later.
    pub fn is_before(self, (seconds, nanoseconds): (i64, u32)) -> bool {
        Timestamp(seconds, i64::from(nanoseconds)) > self
    }
}
