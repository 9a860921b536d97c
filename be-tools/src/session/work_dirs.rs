//! The directories on which an operation mounts file systems.

use std::path::PathBuf;

use crate::error::{Doing, Result};
use crate::host::Host;

/// The directories on which an operation mounts file systems, in its own mount namespace.
pub(crate) struct WorkDirs {
    directory: PathBuf,
    /// For one file system of the source.
    pub(crate) source: PathBuf,
    /// For the whole target.
    pub(crate) target: PathBuf,
    /// For one file system of the target, with nothing mounted in it.
    pub(crate) alone: PathBuf,
}

impl WorkDirs {
    pub(crate) fn new(host: &Host, verb: &str) -> Result<Self> {
        let directory = host.run.join(format!("lifeboat/{verb}-{}", std::process::id()));
        let [source, target, alone] =
            ["source", "target", "alone"].map(|name| directory.join(name));
        for place in [&source, &target, &alone] {
            std::fs::create_dir_all(place).at("making the directory", place)?;
        }
        Ok(WorkDirs { directory, source, target, alone })
    }
}

impl Drop for WorkDirs {
    fn drop(&mut self) {
        for place in [&self.source, &self.target, &self.alone, &self.directory] {
            // A directory on which a file system is still mounted cannot be removed. It remains
            // until the next boot, because /run is a tmpfs.
            let _ = std::fs::remove_dir(place);
        }
    }
}
