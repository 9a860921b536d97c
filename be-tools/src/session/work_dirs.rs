//! The directories on which an operation mounts file systems.

use std::path::PathBuf;

use crate::error::Result;
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
        let name = format!("{verb}-{}", std::process::id());
        let directory = host.work_directory(&name)?;
        let place = |inside: &str| host.work_directory(&format!("{name}/{inside}"));
        let (source, target, alone) = (place("source")?, place("target")?, place("alone")?);
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
