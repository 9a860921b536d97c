//! The layout of the target.

use std::path::Path;

use super::mount_point::MountPoint;
use super::placement::FsType;
use crate::error::{Error, Result};
use crate::storage::provision::Provision;
use crate::storage::volume::FileSystem;

/// A file system of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFileSystem {
    /// Its mount point in the target.
    pub mountpoint: MountPoint,
    /// The device that it is made on.
    pub provision: Provision,
    /// Its type.
    pub fs_type: FsType,
    /// Mount options for fstab.
    pub options: String,
    /// The source's file systems that are copied to it: several if some are merged, none if it is
    /// split off one that is copied to another file system.
    pub sources: Vec<MountPoint>,
}

/// Which mount point of the target is on which device, with which type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The target's own file systems, parents first.
    pub file_systems: Vec<TargetFileSystem>,
    /// Mount points that all BEs mount from the same device.
    pub shared: Vec<MountPoint>,
    /// Lines of fstab that are kept unchanged, because they are not on a disk of this machine or
    /// are mounted only on request (tmpfs, network, bind, optical).
    pub kept: Vec<MountPoint>,
    /// Mount points of the target's own fstab that a refresh leaves as they are.
    pub left: Vec<MountPoint>,
    /// Its own swap spaces. If there are none, the source's swap is shared.
    pub swap: Vec<Provision>,
}

impl TargetFileSystem {
    /// The device node.
    pub fn node(&self) -> &Path {
        self.provision.node()
    }

    /// The file system, once it has been made with this UUID.
    pub fn file_system(&self, uuid: &str) -> FileSystem {
        FileSystem {
            volume: self.provision.volume().clone(),
            kind: self.fs_type.kind(),
            uuid: uuid.to_owned(),
        }
    }
}

impl Layout {
    /// The target's own file system that holds `path` of the target.
    pub fn holding(&self, path: &MountPoint) -> Option<&TargetFileSystem> {
        self.file_systems.iter().rev().find(|t| path.below(&t.mountpoint).is_some())
    }

    /// The target's own file system mounted at `mountpoint`.
    pub fn at(&self, mountpoint: &MountPoint) -> Option<&TargetFileSystem> {
        self.file_systems.iter().find(|t| t.mountpoint == *mountpoint)
    }

    /// The mount points of the source that are merged, so that the target does not have them.
    pub fn merged(&self) -> impl Iterator<Item = &MountPoint> {
        self.file_systems.iter().flat_map(|t| t.sources.iter().filter(|s| **s != t.mountpoint))
    }

    /// Refuses to split a file system off, or merge one into, a file system that is shared or not
    /// on a disk.
    pub(super) fn check_ownership(&self) -> Result<()> {
        let above = |mount_point: &MountPoint| {
            self.shared
                .iter()
                .chain(&self.kept)
                .filter(|m| mount_point.is_strictly_below(m))
                .max()
                .cloned()
        };
        let copied: Vec<&MountPoint> = self.file_systems.iter().flat_map(|t| &t.sources).collect();
        for target in &self.file_systems {
            let split = !copied.contains(&&target.mountpoint);
            let source =
                copied.iter().copied().filter(|s| target.mountpoint.is_strictly_below(s)).max();
            let outside = above(&target.mountpoint)
                .filter(|outside| split && source.is_none_or(|s| outside > s));
            if let Some(outside) = outside {
                return Err(not_owned(&target.mountpoint, &outside, "leave it out"));
            }
            for merged in target.sources.iter().filter(|s| **s != target.mountpoint) {
                if let Some(outside) = above(merged).filter(|outside| *outside > target.mountpoint)
                {
                    return Err(not_owned(
                        merged,
                        &outside,
                        &format!("share it (-m {merged}:shared)"),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn not_owned(mount_point: &MountPoint, outside: &MountPoint, way_out: &str) -> Error {
    Error::Usage(format!(
        "{mount_point} is part of {outside}, which the new boot environment does not own: give \
        {outside} a device too (-m {outside}:DEVICE:FSTYPE), or {way_out}"
    ))
}
