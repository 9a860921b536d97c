//! Which directories are copied to which file systems of the target.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::mount_point::MountPoint;
use super::target::Layout;

/// One run of the copy engine, from a directory of a source file system to a directory of a target
/// file system. Both are mounted without anything mounted in them, so that files hidden under mount
/// points are copied too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeCopy {
    /// The source's file system, by its mount point.
    pub source: MountPoint,
    /// The directory in it; empty for all of it.
    pub from: PathBuf,
    /// The target's file system, by its mount point.
    pub target: MountPoint,
    /// The directory in it; empty for its top.
    pub to: PathBuf,
    /// Directories below `from`, relative to it, that are made but stay empty: another run copies
    /// their content, or files that a mount hides would become visible.
    pub without: Vec<PathBuf>,
}

impl TreeCopy {
    /// The directory as the source sees it.
    pub fn source_directory(&self) -> PathBuf {
        joined(&self.source, &self.from)
    }

    /// The directory as the target sees it.
    pub fn target_directory(&self) -> PathBuf {
        joined(&self.target, &self.to)
    }
}

/// Joins the paths, without a slash at the end if `directory` is empty.
fn joined(mountpoint: &MountPoint, directory: &Path) -> PathBuf {
    mountpoint.as_path().join(directory).components().collect()
}

impl Layout {
    /// The copies that fill the target, parents first.
    pub fn copies(&self) -> Vec<TreeCopy> {
        let copied: BTreeSet<&MountPoint> =
            self.file_systems.iter().flat_map(|t| &t.sources).collect();
        let all_sources: BTreeSet<&MountPoint> =
            copied.iter().copied().chain(&self.shared).chain(&self.kept).collect();
        let own: BTreeSet<&MountPoint> = self.file_systems.iter().map(|t| &t.mountpoint).collect();
        let directories: BTreeSet<&MountPoint> = copied.union(&own).copied().collect();
        let copy = |directory: &MountPoint| {
            let source =
                directory.nearest(all_sources.iter().copied()).filter(|s| copied.contains(s))?;
            let target = directory.nearest(own.iter().copied())?;
            // A mount point of both source and target hides the same files in both. Any other
            // directory below is filled by another run, or is on another file system of the target,
            // which may be left as it is.
            let elsewhere: BTreeSet<&MountPoint> = directories
                .iter()
                .copied()
                .filter(|p| !(copied.contains(p) && own.contains(p)))
                .chain(&self.left)
                .filter(|p| p.is_strictly_below(directory))
                .filter(|p| {
                    all_sources.iter().filter(|s| p.is_strictly_below(s)).max() == Some(&source)
                })
                .collect();
            Some(TreeCopy {
                source: source.clone(),
                from: directory.below(source)?.to_owned(),
                target: target.clone(),
                to: directory.below(target)?.to_owned(),
                without: elsewhere
                    .iter()
                    .filter_map(|p| p.below(directory))
                    .map(PathBuf::from)
                    .collect(),
            })
        };
        directories.iter().copied().filter_map(copy).collect()
    }
}
