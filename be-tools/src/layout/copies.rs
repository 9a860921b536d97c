//! Which part of which source file system goes where.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::mount_point::MountPoint;
use super::target::Layout;

/// One run of the copy engine: a directory of a source file system into a directory of a target
/// file system, each mounted alone (nothing mounted in it), so that what lies hidden under mount
/// points is copied too.
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
    /// Directories below `from`, relative to it, that are made but stay empty: their content goes
    /// elsewhere, or what is hidden under them would come to light.
    pub without: Vec<PathBuf>,
}

impl TreeCopy {
    /// The directory as the source sees it.
    pub fn source_place(&self) -> PathBuf {
        joined(&self.source, &self.from)
    }

    /// The directory as the target sees it.
    pub fn target_place(&self) -> PathBuf {
        joined(&self.target, &self.to)
    }
}

/// Without the slash that joining an empty path leaves at the end.
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
        let places: BTreeSet<&MountPoint> = copied.union(&own).copied().collect();
        let copy = |place: &MountPoint| {
            let source =
                place.nearest(all_sources.iter().copied()).filter(|s| copied.contains(s))?;
            let target = place.nearest(own.iter().copied())?;
            // A mount point of both hides the same in both. Any other place below has its content
            // from another run, or goes to another file system.
            let elsewhere: BTreeSet<&MountPoint> = places
                .iter()
                .copied()
                .filter(|p| p.is_strictly_below(place) && !(copied.contains(p) && own.contains(p)))
                .filter(|p| {
                    all_sources.iter().filter(|s| p.is_strictly_below(s)).max() == Some(&source)
                })
                .collect();
            Some(TreeCopy {
                source: source.clone(),
                from: place.below(source)?.to_owned(),
                target: target.clone(),
                to: place.below(target)?.to_owned(),
                without: elsewhere
                    .iter()
                    .filter_map(|p| p.below(place))
                    .map(PathBuf::from)
                    .collect(),
            })
        };
        places.iter().copied().filter_map(copy).collect()
    }
}
