//! Plans, and the reports of the operations that carry them out.

mod packages;

use serde::Serialize;

use crate::error::{Error, Result};
pub use packages::{ChangeKind, PackageChange, PackageChanges};

/// A block device as the plan shows it before anything is written to it.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedDevice {
    /// Kernel name with /dev.
    pub device: String,
    /// Model of its disk.
    pub model: String,
    /// Serial number of its disk.
    pub serial: String,
    /// Bytes.
    pub size: u64,
    /// What it holds now.
    pub holds: String,
    /// What it will hold.
    pub becomes: String,
    /// The BE that its content belongs to, if that is the one which the operation deletes, replaces
    /// or refreshes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<String>,
    /// Whether its content is erased. Otherwise only what differs is written.
    pub erased: bool,
    /// What it will be made from, if it does not exist yet. The other fields then say what it will
    /// be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<PlannedParent>,
}

/// What a device that does not exist yet will be made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedParent {
    /// Its kind.
    pub kind: ParentKind,
    /// `/dev/sdb`, or the name of the group or pool.
    pub name: String,
    /// Model of the disk; empty for others.
    pub model: String,
    /// Serial number of the disk; empty for others.
    pub serial: String,
    /// Bytes.
    pub size: u64,
}

/// What a device can be made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ParentKind {
    /// A disk with free space.
    Disk,
    /// A volume group.
    Group,
    /// A pool, such as a btrfs.
    Pool,
}

impl PlannedDevice {
    /// The same device as one of a BE's.
    pub fn of(self, environment: impl Into<String>) -> Self {
        PlannedDevice { environment: Some(environment.into()), ..self }
    }
}

impl ParentKind {
    /// Its name in a plan.
    pub fn name(self) -> &'static str {
        match self {
            ParentKind::Disk => "disk",
            ParentKind::Group => "group",
            ParentKind::Pool => "pool",
        }
    }
}

/// What an operation will do. Making a plan writes nothing.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Plan {
    /// One line: the operation and its object.
    pub title: String,
    /// Devices that will be written to.
    pub devices: Vec<PlannedDevice>,
    /// What happens to the packages, if the operation changes them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packages: Option<PackageChanges>,
    /// What will be done, in order.
    pub steps: Vec<String>,
    /// What the administrator should know before confirming.
    pub notes: Vec<String>,
    /// Whether a verb asks for confirmation that does not ask otherwise.
    #[serde(skip)]
    pub is_asked: bool,
}

/// What an operation reports while it runs. The command line prints it, tests collect it.
pub trait Report {
    /// Shows the plan and decides whether to go on; `Ok(false)` stops after the plan (`--dry-run`).
    ///
    /// # Errors
    /// `Refusal::NotConfirmed`, if the answer was no or there is no terminal to ask on.
    fn confirm(&mut self, plan: &Plan) -> Result<bool>;
    /// A step of the plan begins: its number, from 1, and its line.
    fn step(&mut self, number: usize, line: &str);
    /// Part of a step begins, which the plan does not list.
    fn part(&mut self, _: &str) {}
    /// The last step has ended.
    fn ended(&mut self) {}
    /// Reports the progress of a long step. Called often, so it must be cheap.
    fn progress(&mut self, progress: &Progress);
    /// Something the administrator must see, which is not an error.
    fn warn(&mut self, message: &str);
    /// What the operation could not do although it goes on: it ends with exit status 4.
    fn fall_short(&mut self, message: &str) {
        self.warn(message);
    }
}

/// The progress of a long step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What [`Progress::files`] counts.
    pub unit: Unit,
    /// Entries of a tree, or packages, done.
    pub files: u64,
    /// Content bytes done.
    pub bytes: u64,
    /// Entries or packages in all, once known.
    pub total_files: Option<u64>,
    /// Content bytes in all, once known.
    pub total_bytes: Option<u64>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Entries of a tree.
    #[default]
    Files,
    /// Packages.
    Packages,
}

impl Unit {
    /// Its name for this many of them.
    pub fn name(self, count: u64) -> &'static str {
        match (self, count) {
            (Unit::Files, 1) => "file",
            (Unit::Files, _) => "files",
            (Unit::Packages, 1) => "package",
            (Unit::Packages, _) => "packages",
        }
    }
}

/// A report that confirms every plan and prints nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Report for Silent {
    fn confirm(&mut self, _: &Plan) -> Result<bool> {
        Ok(true)
    }
    fn step(&mut self, _: usize, _: &str) {}
    fn progress(&mut self, _: &Progress) {}
    fn warn(&mut self, _: &str) {}
}

/// Stops an operation between two steps once SIGINT or SIGTERM has arrived.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn go_on() -> Result<()> {
    if crate::signals::interrupted() { Err(Error::Interrupted) } else { Ok(()) }
}

#[cfg(test)]
pub(crate) mod testing {
    //! A report that records what it receives.

    use super::*;

    #[derive(Debug, Default)]
    pub(crate) struct Recorder {
        /// The steps that have begun. Their numbers are checked.
        pub(crate) steps: Vec<String>,
        pub(crate) warnings: Vec<String>,
    }

    impl Report for Recorder {
        fn confirm(&mut self, _: &Plan) -> Result<bool> {
            Ok(true)
        }
        fn step(&mut self, number: usize, line: &str) {
            self.steps.push(line.to_owned());
            assert_eq!(number, self.steps.len(), "{line}");
        }
        fn progress(&mut self, _: &Progress) {}
        fn warn(&mut self, message: &str) {
            self.warnings.push(message.to_owned());
        }
    }
}
