//! What a copy is to do, and what it did.

use std::path::{Path, PathBuf};

use crate::timestamp::Timestamp;
use crate::tree::exclude::Exclude;
use crate::tree::measure::Totals;

/// What the target holds when the copy begins.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Nothing that is worth keeping.
    Fresh,
    /// An earlier copy. What is equal stays, what the source no longer has is removed, and no file
    /// is ever half written under its own name.
    Refresh(Trust),
}

/// How far an earlier copy is trusted. By default all contents are compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// Whether to compare the contents of all files, whatever their times say.
    pub checksum: bool,
    /// When the target was last complete. Inodes that have not changed since then are as the copy
    /// made them.
    pub complete: Option<Timestamp>,
    /// When the last refresh began, if it was interrupted. After a power cut, files written since
    /// then may lack their content.
    pub interrupted: Option<Timestamp>,
}

/// A request to copy a file system of the source to its place in the target.
#[derive(Debug)]
pub struct CopyRequest<'a> {
    /// Where the source file system is mounted for reading. This is a private bind mount, so that
    /// nothing is mounted on it and files beneath mount points are visible.
    pub source: &'a Path,
    /// Where the target's file system is mounted.
    pub target: &'a Path,
    /// The directory of the source to copy, relative to `source`, or empty for all of it. Symlinks
    /// are not followed.
    pub from: &'a Path,
    /// The directory of the target to copy to, relative to `target`, or empty for its root.
    /// Symlinks are not followed, and missing directories are created.
    pub to: &'a Path,
    /// The mount point of `from` in the boot environment, such as `/` or `/boot`. Rules and reports
    /// name paths as the BE sees them.
    pub mountpoint: &'a Path,
    /// What is left out. A refresh does not touch it in the target either.
    pub exclude: Exclude,
    /// What the target holds.
    pub mode: Mode,
    /// Whether the source is in use: it is then walked a second time, to copy what changed during
    /// the first.
    pub two_pass: bool,
    /// What [`measure`](crate::tree::measure::measure) found, for progress reports.
    pub totals: Option<Totals>,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries of every type in the target.
    pub files: u64,
    /// Entries that were created or changed.
    pub changed: u64,
    /// Entries that were removed because the source no longer has them.
    pub removed: u64,
    /// Bytes of content that were written, without holes.
    pub bytes: u64,
    /// Additional names of files that have several.
    pub hard_links: u64,
    /// Entries that could not be read and are not in the target. At most 10,000 are named.
    pub lost: Vec<PathBuf>,
    /// How many more were lost.
    pub more_lost: usize,
    /// Entries that were written to while they were last read, so that their copies may mix old and
    /// new content.
    pub changed_during_copy: Vec<PathBuf>,
    /// How many more changed.
    pub more_changed: usize,
    /// Entries with attributes that the target's file system cannot hold, and which.
    pub not_representable: Vec<(PathBuf, String)>,
    /// How many more there were.
    pub more_not_representable: usize,
    /// What else is to be known of entries, and why those are lost that could have been read.
    pub remarks: Vec<(PathBuf, String)>,
    /// How many more there were.
    pub more_remarks: usize,
}
