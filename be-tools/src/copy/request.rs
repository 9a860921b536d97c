//! What a copy is asked to do, and what it did.

use std::path::{Path, PathBuf};

use crate::timestamp::Timestamp;
use crate::tree::exclude::Exclude;
use crate::tree::measure::Totals;

/// What the target is to the copy.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Empty, or of no worth.
    Fresh,
    /// An earlier copy: what is equal stays, what is gone goes, and nothing is half written under
    /// its own name.
    Refresh(Trust),
}

/// How far an existing target is believed. The default believes nothing that was not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// Compare the content of all files, whatever their times say.
    pub checksum: bool,
    /// When the target was last complete. Inodes that were not changed since are as the copy made
    /// them.
    pub complete: Option<Timestamp>,
    /// When a refresh began that was interrupted: after a power cut, what was written since may
    /// lack its content.
    pub interrupted: Option<Timestamp>,
}

/// One copy: a file system of the source into its place in the target.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the source file system is mounted for reading: a private bind mount, so that nothing
    /// else is mounted on it and what lies beneath mount points shows.
    pub source: &'a Path,
    /// Where the target's file system is mounted.
    pub target: &'a Path,
    /// The directory of the source that is copied; empty for all of it. No link leads there.
    pub from: &'a Path,
    /// The directory of the target that it becomes; empty for its root. No link leads there; what
    /// is missing is made.
    pub to: &'a Path,
    /// Its mount point in the boot environment: `/` or `/boot`. Rules and reports name paths as the
    /// BE sees them.
    pub mountpoint: &'a Path,
    /// What is left out; a refresh leaves it alone.
    pub exclude: Exclude,
    /// What is there already.
    pub mode: Mode,
    /// The source is in use: walk it a second time and bring over what changed meanwhile.
    pub two_pass: bool,
    /// What [`measure`](crate::tree::measure::measure) found, for the progress.
    pub totals: Option<Totals>,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries of every kind that are there.
    pub files: u64,
    /// Those of them that were not equal before.
    pub changed: u64,
    /// Entries that the source has no more.
    pub removed: u64,
    /// Bytes of content, without holes.
    pub bytes: u64,
    /// Further names of files that have several.
    pub hard_links: u64,
    /// What could not be read and is not in the target: the first 10,000.
    pub lost: Vec<PathBuf>,
    /// How many more there were.
    pub more_lost: usize,
    /// What was written to while it was read the last time: its copy may be a mixture.
    pub changed_during_copy: Vec<PathBuf>,
    /// How many more there were.
    pub more_changed: usize,
    /// What the target's file system cannot hold, and of which entry.
    pub not_representable: Vec<(PathBuf, String)>,
    /// How many more there were.
    pub more_not_representable: usize,
}
