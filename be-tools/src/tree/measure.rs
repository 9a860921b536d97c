//! The size of a tree, before it is copied.

use std::collections::HashSet;
use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use rustix::fs::{AtFlags, FileType, Stat};
use rustix::io::Errno;

use super::directories::{Directories, Id, Inode};
use super::exclude::{Exclude, Verdict};
use super::open::{Missing, open_below};
use super::queue::lock;
use super::walk::{Batch, Found, Sink, walk};
use crate::error::{Doing, Result};
use crate::plan::go_on;
use crate::tree::working_directory::Standpoint;

/// Threads that look at inodes.
const THREADS: usize = 4;

/// The size of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries of every kind.
    pub files: u64,
    /// Bytes allocated on the source's device; a file with several names counts once.
    pub bytes: u64,
}

/// Measures what [`copy_tree`](crate::copy::copy_tree) would copy of a directory in a mounted file
/// system, so that too little space is known before anything is written.
///
/// # Errors
/// When the source's root cannot be opened, and [`Error::Interrupted`](crate::Error::Interrupted).
/// What cannot be read counts nothing.
pub fn measure(
    (source, from): (&Path, &Path),
    mountpoint: &Path,
    exclude: &Exclude,
) -> Result<Totals> {
    let root = open_below(source, from, Missing::Fails)?;
    let directories =
        Directories::new(mountpoint.as_os_str().as_bytes(), root, None).at("reading", source)?;
    let scale = Scale::default();
    walk(&directories, exclude, &scale, THREADS)?;
    Ok(Totals { files: scale.files.into_inner(), bytes: scale.bytes.into_inner() })
}

#[derive(Default)]
struct Scale {
    files: AtomicU64,
    bytes: AtomicU64,
    seen: Mutex<HashSet<Inode>>,
}

impl Scale {
    fn add(&self, stat: &Stat) {
        self.files.fetch_add(1, Ordering::Relaxed);
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if directory || stat.st_nlink < 2 || lock(&self.seen).insert((stat.st_dev, stat.st_ino)) {
            self.bytes
                .fetch_add(u64::try_from(stat.st_blocks).unwrap_or(0) * 512, Ordering::Relaxed);
        }
    }
}

impl Sink for Scale {
    type Directory = ();

    fn directory(&self, found: Found<'_>) -> Result<Option<()>> {
        go_on()?;
        self.add(found.stat);
        Ok(Some(()))
    }
    fn entries(
        &self,
        _: &mut Standpoint,
        (): &(),
        (_, source, _): (Id, &Arc<OwnedFd>, Verdict),
        batch: Batch,
    ) -> Result<()> {
        for entry in batch.entries.iter().filter(|entry| entry.kind != FileType::Directory) {
            if let Ok(stat) = rustix::fs::statat(&**source, &*entry.name, AtFlags::SYMLINK_NOFOLLOW)
            {
                self.add(&stat);
            }
        }
        Ok(())
    }
    fn mount_point(&self, _: Id, _: &CStr, _: &Stat) -> Result<()> {
        self.files.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn listed(&self, _: Id) -> Result<()> {
        Ok(())
    }
    fn lost(&self, _: Id, _: &CStr, _: Errno) -> Result<()> {
        Ok(())
    }
}
