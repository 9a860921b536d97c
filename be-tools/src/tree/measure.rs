//! The size of a tree, before it is copied.

use std::collections::HashSet;
use std::ffi::CStr;

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::directories::{Directories, DirectoryId, InodeId};
use super::exclude::Exclude;
use super::open::{IfMissing, open_below};
use super::queue::lock;
use super::walk::{Batch, FoundDirectory, Sink, SourceDirectory, walk};
use crate::error::{Doing, Result};
use crate::plan::go_on;
use crate::storage::mkfs::Need;
use crate::tree::working_directory::WorkingDirectory;

/// Threads that look at inodes.
const THREADS: usize = 4;

/// The size of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries of every kind. Each name of a file that has several counts.
    pub files: u64,
    /// Inodes: a file with several names counts once.
    pub inodes: u64,
    /// Bytes allocated on the source's device. A file with several names counts once.
    pub bytes: u64,
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Totals) {
        self.files += other.files;
        self.inodes += other.inodes;
        self.bytes += other.bytes;
    }
}

impl From<Totals> for Need {
    fn from(Totals { files, inodes, bytes }: Totals) -> Self {
        Need { bytes, inodes, names: files }
    }
}

/// What a measurement found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// The size of what would be copied.
    pub totals: Totals,
    /// The snapshots that would be left out.
    pub snapshots: Vec<PathBuf>,
}

/// Measures what [`copy_tree`](crate::copy::copy_tree) would copy of the directory `from` in the
/// file system mounted at `source`, so that a lack of space is known before anything is written.
/// What cannot be read is not counted.
///
/// # Errors
/// When the directory cannot be opened, and [`Error::Interrupted`](crate::Error::Interrupted).
pub fn measure(
    source: &Path,
    from: &Path,
    mountpoint: &Path,
    exclude: &Exclude,
) -> Result<Measured> {
    let root = open_below(source, from, IfMissing::Fail)?;
    let directories =
        Directories::new(mountpoint.as_os_str().as_bytes(), root, None).at("reading", source)?;
    let tally = Tally::default();
    walk(&directories, exclude, &tally, THREADS)?;
    let mut snapshots = tally.snapshots.into_inner().unwrap_or_else(PoisonError::into_inner);
    snapshots.sort();
    let totals = Totals {
        files: tally.files.into_inner(),
        inodes: tally.inodes.into_inner(),
        bytes: tally.bytes.into_inner(),
    };
    Ok(Measured { totals, snapshots })
}

#[derive(Default)]
struct Tally {
    files: AtomicU64,
    inodes: AtomicU64,
    bytes: AtomicU64,
    snapshots: Mutex<Vec<PathBuf>>,
    /// Inodes with several names that have been counted.
    seen: Mutex<HashSet<InodeId>>,
}

impl Tally {
    fn add(&self, stat: &Stat) {
        self.files.fetch_add(1, Ordering::Relaxed);
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory || stat.st_nlink < 2 || lock(&self.seen).insert(InodeId::of(stat)) {
            self.inodes.fetch_add(1, Ordering::Relaxed);
            self.bytes
                .fetch_add(u64::try_from(stat.st_blocks).unwrap_or(0) * 512, Ordering::Relaxed);
        }
    }
}

impl Sink for Tally {
    type Directory = ();

    fn directory(&self, found: FoundDirectory<'_>) -> Result<Option<()>> {
        go_on()?;
        self.add(found.stat);
        Ok(Some(()))
    }
    fn entries(
        &self,
        _: &mut WorkingDirectory,
        (): &(),
        source: SourceDirectory<'_>,
        batch: Batch,
    ) -> Result<()> {
        for entry in batch.entries.iter().filter(|entry| entry.kind != FileType::Directory) {
            if let Ok(stat) =
                rustix::fs::statat(&**source.fd, &*entry.name, AtFlags::SYMLINK_NOFOLLOW)
            {
                self.add(&stat);
            }
        }
        Ok(())
    }
    fn mount_point(&self, _: DirectoryId, _: &CStr, _: &Stat) -> Result<()> {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.inodes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn snapshot(&self, _: DirectoryId, path: PathBuf) -> Result<()> {
        lock(&self.snapshots).push(path);
        Ok(())
    }
    fn listed(&self, _: DirectoryId) -> Result<()> {
        Ok(())
    }
    fn lost(&self, _: DirectoryId, _: &CStr, _: Errno) -> Result<()> {
        Ok(())
    }
}
