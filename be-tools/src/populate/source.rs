//! The source's file systems, each mounted by itself and read-only.

use std::fmt::{Display, Formatter};
use std::path::Path;
use std::sync::Arc;

use crate::environment::mounted::refuse_anothers;
use crate::environment::unclean::is_unclean;
use crate::environment::{BootEnvironment, Inventory};
use crate::error::{Error, Refusal, Result};
use crate::layout::MountPoint;
use crate::session::Session;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Holds;
use crate::storage::mounts::{Mounted, Mounts};
use crate::storage::subvolume::Subvolume;
use crate::storage::volume::{Access, FileSystem, Volume};

/// The file system that a BE has at a mount point.
///
/// # Errors
/// [`Error::FileSystemNotFound`], [`Error::DeviceGone`], several devices match, the device has no
/// file system, or it is a part of another BE.
pub(crate) fn file_system(
    inventory: &Inventory,
    source: &BootEnvironment,
    mountpoint: &MountPoint,
) -> Result<FileSystem> {
    let device_at = |node: &Path| {
        let device = inventory.devices.by_node(node);
        device.ok_or_else(|| Error::DeviceGone { device: node.to_owned() })
    };
    if mountpoint.is_root() {
        let subvolume = source.root.subvolume.as_deref().and_then(Subvolume::at);
        let volume = Volume::of(&inventory.devices, device_at(&source.root.device)?);
        return FileSystem::found(volume.with_subvolume(subvolume));
    }
    let not_found = || {
        let (mountpoint, name) = (mountpoint.to_string(), source.name().into());
        Error::FileSystemNotFound { mountpoint, name }
    };
    let line = source.file_systems.iter().find(|f| f.mountpoint == mountpoint.as_path());
    let line = line.ok_or_else(not_found)?;
    let Some(node) = &line.device else {
        inventory.devices.refuse_ambiguous(&line.spec)?;
        return Err(not_found());
    };
    let device = device_at(node)?;
    refuse_anothers(inventory, source, line, device)?;
    FileSystem::found(Volume::of_line(&inventory.devices, device, &line.options)?)
}

/// Sentences for a plan about file systems that a source, which does not run, has on other disks
/// than its root, although nothing shows that they were made for it.
///
/// # Errors
/// Those of [`file_system`].
pub(crate) fn notes_on_other_disks(
    inventory: &Inventory,
    source: &BootEnvironment,
    mountpoints: &[MountPoint],
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for mountpoint in mountpoints.iter().filter(|_| !source.running) {
        let device = file_system(inventory, source, mountpoint)?.volume.device;
        let disk = inventory.devices.disk_of(&device);
        let (name, node) = (source.name(), device.node.display());
        // Its root is where it was found. The line of a snapshot's fstab may name the original.
        let mut lines = source.file_systems.iter().filter(|_| !mountpoint.is_root());
        let line = lines.find(|f| f.mountpoint == mountpoint.as_path());
        let named =
            line.map(|line| refuse_anothers(inventory, source, line, &device)).transpose()?;
        if let Some(other) = named.flatten() {
            notes.push(format!(
                "{mountpoint} of '{name}' is {node}, which the fstab of '{other}' names too"
            ));
        } else if disk.node != source.root.disk && !source.has_made(&device.node) {
            notes.push(format!(
                "{mountpoint} of '{name}' is {node}, on another disk than its root, because its \
                fstab says so"
            ));
        }
    }
    Ok(notes)
}

/// Mounts one file system of the source on the session's directory for it, without what is mounted
/// in it. The kernel refuses writes.
///
/// # Errors
/// Those of [`file_system`], or it cannot be mounted.
pub(crate) fn mount(
    session: &Session,
    source: &BootEnvironment,
    mountpoint: &MountPoint,
) -> Result<Mounted> {
    let Session { host, inventory, work, .. } = session;
    let mounts = Mounts::read(host)?;
    file_system(inventory, source, mountpoint)?.show(&mounts, Access::Read, &work.source)
}

/// The devices of the source that were not cleanly unmounted. Their journals have to be replayed,
/// or the copy would lack what is in them.
///
/// # Errors
/// Those of [`file_system`], and [`Refusal::JournalOnReadOnlyDevice`]. The source is hibernated: it
/// has the state of its journals in memory.
pub(crate) fn with_journals(
    session: &Session,
    source: &BootEnvironment,
    mountpoints: &[MountPoint],
) -> Result<Vec<Arc<BlockDevice>>> {
    let Session { host, inventory, .. } = session;
    let mounts = Mounts::read(host)?;
    let mut dirty = Vec::new();
    for mountpoint in mountpoints {
        let device = file_system(inventory, source, mountpoint)?.volume.device;
        if is_unclean(&device, &mounts) && !dirty.contains(&device) {
            if device.read_only {
                let device = device.node.display().to_string();
                return Err(Refusal::JournalOnReadOnlyDevice { device }.into());
            }
            dirty.push(device);
        }
    }
    for device in &dirty {
        inventory.refuse_hibernated(device)?;
    }
    Ok(dirty)
}

/// A step that replays the journal of a file system of the source before it is copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReplayJournal<'a>(pub(crate) &'a BlockDevice);

impl Display for ReplayJournal<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "replay the journal on {} (the source was not cleanly unmounted; nothing else is \
            written to it)",
            self.0.node.display()
        )
    }
}

impl ReplayJournal<'_> {
    /// Mounts the file system once for writing.
    ///
    /// # Errors
    /// The file system cannot be mounted.
    pub(crate) fn run(&self, inventory: &Inventory, holds: &Holds, directory: &Path) -> Result<()> {
        let file_system = FileSystem::found(Volume::of(&inventory.devices, self.0))?;
        let access = Access::Write(holds.of(self.0)?);
        file_system.show(&Mounts::default(), access, directory)?.unmount()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::FileSystemUse;
    use crate::storage::probe::{Kind, SuperBlock};

    #[test]
    fn a_snapshot_whose_fstab_names_its_original_is_copied() {
        let device = BlockDevice::example("sda2", SuperBlock::new(Kind::Btrfs));
        let root = |subvolume: &str| {
            let mut found = BootEnvironment::empty(Path::new("/dev/sda2"));
            (found.root.subvolume, found.root.disk) = (Some(subvolume.into()), "/dev/sda2".into());
            let line = FileSystemUse::example("/", "/dev/sda2");
            found.file_systems.push(FileSystemUse { options: "subvol=@".into(), ..line });
            found
        };
        let inventory = Inventory {
            environments: vec![root("@"), root("@backup")],
            devices: [device].into_iter().collect(),
            ..Inventory::default()
        };
        let backup = &inventory.environments[1];
        let notes = notes_on_other_disks(&inventory, backup, &[MountPoint::root()]).unwrap();
        assert_eq!(notes, Vec::<String>::new());
    }
}
