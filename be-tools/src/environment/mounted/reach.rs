//! How far a BE reaches the devices that its fstab names. An fstab may name any device of the
//! machine, the root of the running system too: it is the word of whoever wrote that disk. What is
//! on the disk of the root came with it, and what was made for the BE bears its mark.

use super::wanted::Wanted;
use crate::environment::{BootEnvironment, FileSystemUse, Inventory};
use crate::storage::device::BlockDevice;

/// How far a BE reaches a device.
pub(super) enum Reach {
    /// As far as it is wanted.
    Whole,
    /// For reading only, for this reason.
    Read(String),
    /// Not at all, for this reason.
    Nothing(String),
}

/// How far a BE reaches the device of a line of its fstab.
pub(super) fn of(
    inventory: &Inventory,
    environment: &BootEnvironment,
    file_system: &FileSystemUse,
    device: &BlockDevice,
    wanted: Wanted,
) -> Reach {
    let Wanted { mode, is_for_programs, writable, .. } = wanted;
    // Reading by Lifeboat itself shows nothing to anybody.
    if !mode.writes() && !is_for_programs {
        return Reach::Whole;
    }
    if is_anothers(inventory, environment, device) {
        let why = format!("{} belongs to another boot environment", device.node.display());
        return if is_for_programs { Reach::Nothing(why) } else { Reach::Read(why) };
    }
    let (name, place) = (environment.name(), &file_system.mountpoint);
    if environment.has_made(&device.node) || writable.contains(place) {
        return Reach::Whole;
    }
    // What several BEs are made of is written by the one that runs.
    if !file_system.shared
        && let Some(other) = also_named_by(inventory, environment, device)
    {
        let why = format!(
            "{} is in the fstab of '{other}' too; --writable {} gives it to '{name}'",
            device.node.display(),
            place.display()
        );
        return if is_for_programs { Reach::Nothing(why) } else { Reach::Read(why) };
    }
    let is_on_its_disk = inventory.devices.disk_of(device).node == environment.root.disk;
    if is_on_its_disk {
        return Reach::Whole;
    }
    let root = inventory.devices.by_node(&environment.root.device);
    let place = place.display();
    if is_for_programs && root.is_some_and(BlockDevice::is_portable) {
        return Reach::Nothing(format!(
            "'{name}' is on a disk that may come from another machine, and this is on one of this \
            machine; --writable {place} gives it to '{name}'"
        ));
    }
    Reach::Read(format!(
        "it is on another disk than the root, and nothing shows that it was made for '{name}'; \
        --writable {place} mounts it for writing"
    ))
}

/// Whether a device is the root of another BE, or was made for another one.
fn is_anothers(inventory: &Inventory, environment: &BootEnvironment, device: &BlockDevice) -> bool {
    others(inventory, environment)
        .any(|other| other.root.device == device.node || other.has_made(&device.node))
}

/// Another BE whose fstab names a device too.
fn also_named_by<'a>(
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    device: &BlockDevice,
) -> Option<&'a str> {
    others(inventory, environment)
        .filter(|other| !other.is_visitor(&inventory.devices))
        .find(|other| other.named_devices().any(|named| *named == device.node))
        .map(BootEnvironment::name)
}

fn others<'a>(
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
) -> impl Iterator<Item = &'a BootEnvironment> {
    inventory.environments.iter().filter(|other| other.root.device != environment.root.device)
}
