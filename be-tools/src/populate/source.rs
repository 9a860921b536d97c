//! The source's file systems, each seen alone and read-only.

use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::environment::BootEnvironment;
use crate::environment::Inventory;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::layout::MountPoint;
use crate::storage::mounts::{Mounted, Mounts};
use crate::storage::subvolume::Subvolume;
use crate::storage::volume::{Access, FileSystem, Volume};

/// The file system behind a mount point of a BE.
///
/// # Errors
/// When its device is gone, or holds none.
pub(crate) fn file_system(
    inventory: &Inventory,
    source: &BootEnvironment,
    mountpoint: &MountPoint,
) -> Result<FileSystem> {
    let (node, subvolume) = if mountpoint.is_root() {
        (&source.root.device, source.root.subvolume.as_deref().and_then(Subvolume::at))
    } else {
        let line = source.file_systems.iter().find(|f| f.mountpoint == mountpoint.as_path());
        let found = line.and_then(|f| Some((f.device.as_ref()?, f)));
        let (node, line) = found.ok_or_else(|| {
            Error::Failed(format!(
                "{mountpoint} of '{}' is on no disk that was found: connect that disk, or correct \
                its fstab",
                source.name()
            ))
        })?;
        (node, Subvolume::of_options(&line.options)?)
    };
    let device = inventory.devices.by_node(node).ok_or_else(|| {
        Error::Failed(format!("{} has gone: connect that disk again", node.display()))
    })?;
    FileSystem::found(Volume::of(&inventory.devices, device).with_subvolume(subvolume))
}

/// Shows one file system of the source at `directory`, without what is mounted in it. The kernel
/// refuses writes.
///
/// # Errors
/// When its device is gone or cannot be mounted.
pub(crate) fn mount(
    host: &Host,
    inventory: &Inventory,
    source: &BootEnvironment,
    mountpoint: &MountPoint,
    directory: &Path,
) -> Result<Mounted> {
    let mounts = Mounts::read(host)?;
    file_system(inventory, source, mountpoint)?.show(&mounts, Access::Read, directory)
}

/// File systems of the source that were not cleanly unmounted: their journals must be replayed, or
/// the copy would lack what is in them.
pub(crate) fn with_journals(
    host: &Host,
    inventory: &Inventory,
    source: &BootEnvironment,
    mountpoints: &[MountPoint],
) -> Result<Vec<PathBuf>> {
    let mounts = Mounts::read(host)?;
    let mut dirty = Vec::new();
    for mountpoint in mountpoints {
        let device = file_system(inventory, source, mountpoint)?.volume.device;
        let unclean = device.super_block().is_some_and(|s| s.dirty);
        if unclean && mounts.of(&device).next().is_none() && !dirty.contains(&device.node) {
            dirty.push(device.node.clone());
        }
    }
    Ok(dirty)
}

/// Replays the journal of a file system of the source, as a step of the operation that copies it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayJournal<'a>(pub(crate) &'a Path);

impl Display for ReplayJournal<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "replay the journal on {} (the source was not cleanly unmounted; nothing else of it \
            is written)",
            self.0.display()
        )
    }
}

impl ReplayJournal<'_> {
    /// Mounts the file system once for writing.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub(crate) fn run(&self, inventory: &Inventory, directory: &Path) -> Result<()> {
        let device = inventory.devices.by_node(self.0).ok_or_else(|| {
            Error::Failed(format!("{} has gone: connect that disk again", self.0.display()))
        })?;
        let file_system = FileSystem::found(Volume::of(&inventory.devices, device))?;
        file_system.show(&Mounts::default(), Access::Write, directory)?.unmount()
    }
}
