//! The directories on which an operation mounts file systems.

use std::fs;
use std::path::{Path, PathBuf};

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
        remove_left_over(host);
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
            let _ = fs::remove_dir(place);
        }
    }
}

/// Removes the directories of processes that were killed: their mounts went with their namespaces.
/// Only empty ones go, so that nothing that is still mounted is touched.
fn remove_left_over(host: &Host) {
    let names = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    for directory in names(&host.run.join("lifeboat")) {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        // `create-PID`, `mounted-PID-NUMBER`
        let Some(process) = name.split('-').nth(1).filter(|part| part.parse::<u32>().is_ok())
        else {
            continue;
        };
        if host.proc.join(process).exists() {
            continue;
        }
        for place in names(&directory).iter().chain([&directory]) {
            let _ = fs::remove_dir(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_operation_left_is_removed_and_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path());
        fs::create_dir_all(host.proc.join("77")).unwrap();
        for name in ["create-76/source", "mounted-76-1", "create-77/source", "mnt/second-76"] {
            host.work_directory(name).unwrap();
        }
        fs::write(host.run.join("lifeboat/lock"), "").unwrap();
        host.work_directory("refresh-76/target").unwrap();
        fs::write(host.run.join("lifeboat/refresh-76/target/file"), "").unwrap();
        remove_left_over(&host);
        let mut left: Vec<_> = fs::read_dir(host.run.join("lifeboat"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["create-77", "lock", "mnt", "refresh-76"], "what is not empty stays");
    }
}
