//! Times of the clock from which the kernel takes the timestamps of inodes
//! (`CLOCK_REALTIME_COARSE`, clock_gettime(2)).

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::Stat;
use rustix::time::ClockId;
use serde::{Deserialize, Serialize};

/// A time that can be compared with the timestamps of inodes. Its text form is RFC 3339 in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp {
    /// Since 1970.
    seconds: i64,
    nanoseconds: i64,
}

/// Nanoseconds that [`Timestamp::earlier`] subtracts: the clock advances in steps of up to 10 ms.
const STEP: i64 = 20_000_000;

impl TryFrom<String> for Timestamp {
    type Error = humantime::TimestampError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let since_1970 =
            humantime::parse_rfc3339(&text)?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since_1970.as_secs()).unwrap_or(i64::MAX);
        Ok(Timestamp { seconds, nanoseconds: i64::from(since_1970.subsec_nanos()) })
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> String {
        humantime::format_rfc3339_nanos(UNIX_EPOCH + time.since_1970()).to_string()
    }
}

/// RFC 3339, UTC, whole seconds: for people.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_rfc3339_seconds(UNIX_EPOCH + self.since_1970()).fmt(f)
    }
}

impl Timestamp {
    /// The time that is `nanoseconds` after `seconds` seconds since 1970.
    pub fn new(seconds: i64, nanoseconds: u32) -> Self {
        Timestamp { seconds, nanoseconds: i64::from(nanoseconds) }
    }

    /// How long it is after another time; nothing if it is before it.
    pub fn since(self, earlier: Self) -> Duration {
        self.since_1970().saturating_sub(earlier.since_1970())
    }

    fn since_1970(self) -> Duration {
        Duration::new(
            u64::try_from(self.seconds).unwrap_or(0),
            u32::try_from(self.nanoseconds.clamp(0, 999_999_999)).unwrap_or(0),
        )
    }

    /// The timestamp that an inode would get now.
    pub fn now() -> Self {
        let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
        Timestamp { seconds: now.tv_sec, nanoseconds: now.tv_nsec }
    }

    /// A slightly earlier time, so that changes in the same step of the clock count as later.
    pub fn earlier(self) -> Self {
        match self.nanoseconds - STEP {
            less if less < 0 => {
                Timestamp { seconds: self.seconds - 1, nanoseconds: less + 1_000_000_000 }
            }
            nanoseconds => Timestamp { nanoseconds, ..self },
        }
    }

    /// When an inode was last changed (ctime).
    pub fn of(stat: &Stat) -> Self {
        Timestamp { seconds: stat.st_ctime, nanoseconds: nanoseconds(stat.st_ctime_nsec) }
    }

    /// When the content of an inode was last changed, as its owner says (mtime).
    pub fn of_modification(stat: &Stat) -> Self {
        Timestamp { seconds: stat.st_mtime, nanoseconds: nanoseconds(stat.st_mtime_nsec) }
    }

    /// Seconds since 1970 and nine digits of nanoseconds, as mtree(5) writes a time.
    pub fn decimal(self) -> String {
        format!("{}.{:09}", self.seconds, self.nanoseconds)
    }

    /// Reads what [`Timestamp::decimal`] writes.
    pub fn from_decimal(text: &str) -> Option<Self> {
        let (seconds, nanoseconds) = text.split_once('.')?;
        let is_whole = nanoseconds.len() == 9 && nanoseconds.bytes().all(|b| b.is_ascii_digit());
        let nanoseconds = nanoseconds.parse().ok().filter(|_| is_whole)?;
        Some(Timestamp::new(seconds.parse().ok()?, nanoseconds))
    }

    /// Whether an inode was changed at this time or later.
    pub fn reached_by(self, stat: &Stat) -> bool {
        Self::of(stat) >= self
    }
}

/// Nanoseconds as there are. An inode on a disk may have more than a second of them.
fn nanoseconds(found: impl TryInto<i64>) -> i64 {
    found.try_into().unwrap_or(0).clamp(0, 999_999_999)
}
