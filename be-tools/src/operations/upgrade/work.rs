//! The work directory of a package manager: in memory, and gone with the operation.

use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::host::Host;
use crate::storage::mounts::Mounted;
use crate::storage::scratch::mount_scratch;

/// A file system in memory on a directory that only root may enter. What lies in it was written by
/// programs of a BE.
#[derive(Debug)]
pub(super) struct Work {
    directory: PathBuf,
    mounted: Option<Mounted>,
}

impl Work {
    /// Call this in a private mount namespace, with the lock: there is one at a time.
    pub(super) fn new(host: &Host) -> Result<Self> {
        let directory = host.work_directory("upgrade")?;
        let mounted = Some(mount_scratch(&directory)?);
        Ok(Work { directory, mounted })
    }

    pub(super) fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        drop(self.mounted.take());
        // If the mount is still in use, the directory remains until the next boot: /run is a tmpfs.
        let _ = std::fs::remove_dir(&self.directory);
    }
}
