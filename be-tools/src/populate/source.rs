//! The source's file systems, each seen alone and read-only.

use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::environment::BootEnvironment;
use crate::environment::Inventory;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::layout::MountPoint;
use crate::storage::device::BlockDevice;
use crate::storage::mounts::{self, Mounted, Mounts};

/// The device and subvolume behind a mount point of a BE.
pub(crate) struct Place<'a> {
    pub(crate) device: &'a BlockDevice,
    fs_type: &'a str,
    subvolume: Option<String>,
}

pub(crate) fn place<'a>(
    inventory: &'a Inventory,
    source: &'a BootEnvironment,
    mountpoint: &MountPoint,
) -> Result<Place<'a>> {
    let (node, fs_type, subvolume): (&Path, &str, _) = if mountpoint.is_root() {
        (&source.root.device, &source.root.fs_type, source.root.subvolume.clone())
    } else {
        let line = source.file_systems.iter().find(|f| f.mountpoint == mountpoint.as_path());
        let found = line.and_then(|f| Some((f.device.as_deref()?, f)));
        let (node, line) = found.ok_or_else(|| {
            Error::Failed(format!(
                "{mountpoint} of '{}' is on no disk that was found: connect that disk, or correct \
                its fstab",
                source.name()
            ))
        })?;
        let subvolume =
            line.options.split(',').find_map(|o| o.strip_prefix("subvol=")).map(str::to_owned);
        (node, &line.fs_type, subvolume)
    };
    let device = inventory.devices.by_node(node).ok_or_else(|| {
        Error::Failed(format!("{} has gone: connect that disk again", node.display()))
    })?;
    let fs_type = if fs_type == "auto" {
        device.content.kind().map_or("auto", |k| k.name())
    } else {
        fs_type
    };
    Ok(Place { device, fs_type, subvolume })
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
    let place = place(inventory, source, mountpoint)?;
    let top = place
        .subvolume
        .as_deref()
        .map_or_else(|| "/".to_owned(), |s| format!("/{}", s.trim_start_matches('/')));
    let mounts = Mounts::read(host)?;
    let mounted = mounts.of(place.device).find(|m| m.root == Path::new(&top));
    match mounted {
        Some(mount) => mounts::bind_read_only(&mount.mount_point, directory),
        None => {
            let kind = place.device.content.kind().map_or(place.fs_type, |k| k.name());
            mounts::mount_for_scan(&place.device.node, kind, place.subvolume.as_deref(), directory)
        }
    }
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
        let device = place(inventory, source, mountpoint)?.device;
        let unclean = device.super_block().is_some_and(|s| s.dirty);
        if unclean && mounts.of(device).next().is_none() && !dirty.contains(&device.node) {
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
        let device = inventory.devices.by_node(self.0);
        let kind = device.and_then(|d| d.content.kind()).map_or("auto", |k| k.name());
        mounts::mount_target(self.0, kind, directory)?.unmount()
    }
}
