//! Where the file systems of a BE lay when it was scheduled. An id is a file on a disk, and any disk
//! may carry it.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::environment::{BootEnvironment, Inventory};
use crate::storage::device::{BlockDevice, Devices};

/// What identifies the device of a file system, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The UUID of the file system.
    pub uuid: String,
    /// The UUID in the partition table, if it lies on a partition.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part_uuid: String,
    /// The serial number of its disk, if that has one, and if it lies on one disk only: which disk of
    /// an array is the first may change with every start.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Whether its disk is removable.
    #[serde(default)]
    pub removable: bool,
}

impl Location {
    /// Where the root of a BE is.
    pub(super) fn of(inventory: &Inventory, environment: &BootEnvironment) -> Self {
        let uuid = environment.root.uuid.clone();
        match inventory.devices.by_node(&environment.root.device) {
            None => Location { uuid, ..Location::default() },
            Some(device) => Location { uuid, ..Self::of_device(&inventory.devices, device) },
        }
    }

    /// Where the other file systems and the swap are that were made for a BE.
    pub(super) fn of_made(inventory: &Inventory, environment: &BootEnvironment) -> Vec<Self> {
        let root = &environment.root.device;
        let others = environment.made_devices().into_iter().filter(|node| *node != root);
        Self::of_nodes(inventory, others)
    }

    /// Where everything is that a copy of a BE may be made from: all that its fstab names.
    pub(super) fn of_source(inventory: &Inventory, environment: &BootEnvironment) -> Vec<Self> {
        let lines = environment.file_systems.iter().filter(|line| !line.is_esp());
        let mountpoints = lines.map(|line| &*line.mountpoint).filter(|place| place.is_absolute());
        Self::of_mountpoints(inventory, environment, mountpoints.chain([Path::new("/")]))
    }

    /// Where the file systems are that a BE has at these mount points.
    pub(super) fn of_mountpoints<'a>(
        inventory: &Inventory,
        environment: &BootEnvironment,
        mountpoints: impl IntoIterator<Item = &'a Path>,
    ) -> Vec<Self> {
        let node = |place: &Path| match place == Path::new("/") {
            true => Some(&environment.root.device),
            false => {
                let mut lines = environment.file_systems.iter();
                lines.find(|line| line.mountpoint == place)?.device.as_ref()
            }
        };
        let mut nodes: Vec<_> = mountpoints.into_iter().filter_map(node).collect();
        nodes.sort();
        nodes.dedup();
        Self::of_nodes(inventory, nodes)
    }

    fn of_nodes<'a>(
        inventory: &Inventory,
        nodes: impl IntoIterator<Item = &'a PathBuf>,
    ) -> Vec<Self> {
        let devices = &inventory.devices;
        let found = nodes.into_iter().filter_map(|node| devices.by_node(node));
        found.map(|device| Self::of_device(devices, device)).collect()
    }

    fn of_device(devices: &Devices, device: &BlockDevice) -> Self {
        let is_portable = |disk: &BlockDevice| disk.is_portable();
        Location {
            uuid: device.super_block().map(|found| found.uuid.to_string()).unwrap_or_default(),
            part_uuid: device.partition.as_ref().map(|p| p.part_uuid.clone()).unwrap_or_default(),
            serial: serial_below(devices, device),
            removable: is_portable(device) || devices.disks_of(device).into_iter().any(is_portable),
        }
    }

    /// Whether it is the same place, whatever is known of how its disk is attached.
    pub(super) fn is_place_of(&self, found: &Self) -> bool {
        Location { removable: found.removable, ..self.clone() } == *found
    }
}

/// The serial number that all disks under a device have, as the paths of a multipath disk do.
fn serial_below(devices: &Devices, device: &BlockDevice) -> String {
    let mut below = vec![device];
    let mut next = 0;
    // Each device is visited once, so that a loop in a hostile sysfs ends.
    while let Some(device) = below.get(next).copied() {
        next += 1;
        for slave in device.slaves.iter().filter_map(|name| devices.by_name(name)) {
            if !below.iter().any(|known| known.name == slave.name) {
                below.push(slave);
            }
        }
    }
    let mut serials = below.iter().filter(|d| d.slaves.is_empty()).map(|d| &d.serial);
    let first = serials.next().cloned().unwrap_or_default();
    if serials.all(|serial| *serial == first) { first } else { String::new() }
}

impl Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file system {}", self.uuid)?;
        for (what, value) in [("partition", &self.part_uuid), ("disk with serial", &self.serial)] {
            if !value.is_empty() {
                write!(f, " on the {what} {value}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::probe::{Kind, SuperBlock};

    #[test]
    fn a_serial_number_is_known_only_if_it_is_that_of_every_disk_below() {
        let device = |name: &str, serial: &str, slaves: &[&str]| {
            let mut device = BlockDevice::example(name, SuperBlock::new(Kind::Ext4));
            device.serial = serial.into();
            device.slaves = slaves.iter().map(|slave| (*slave).to_owned()).collect();
            device
        };
        let array = ["sda2", "sdb2"];
        for (second, expected) in [("TWO", ""), ("ONE", "ONE")] {
            let devices: Devices = [
                device("sda2", "ONE", &[]),
                device("sdb2", second, &[]),
                device("md0", "", &array),
                device("dm-0", "", &["md0", "dm-0"]),
            ]
            .into_iter()
            .collect();
            let volume = devices.by_name("dm-0").unwrap();
            assert_eq!(serial_below(&devices, volume), expected);
            assert_eq!(serial_below(&devices, devices.by_name("sda2").unwrap()), "ONE");
        }
    }
}
