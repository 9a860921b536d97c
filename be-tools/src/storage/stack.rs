//! The stack of a device: the layers from it down to its disk.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::device::{BlockDevice, Devices};
use super::probe::Kind;

/// The most layers of a stack. Real stacks have few; the limit ends a loop in a hostile sysfs.
const MAX_DEPTH: usize = 16;

/// The kind of a layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerKind {
    /// A disk, or a loop device.
    Disk,
    /// A partition of the layer below.
    Partition,
    /// An array of Linux md.
    Array,
    /// The opened LUKS container on the layer below.
    Mapping,
    /// A logical volume.
    LogicalVolume {
        /// Its volume group.
        group: String,
        /// Its name in the group.
        volume: String,
    },
    /// Another volume of the device mapper, such as that of multipath.
    Mapper,
}

/// One device of a stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Its kind.
    pub kind: LayerKind,
    /// Its device node.
    pub node: PathBuf,
}

/// The layers of a device, from the device itself down to the disk. Of the devices of an array or a
/// volume group, only the first is included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack(Vec<Layer>);

impl Stack {
    /// The stack of a device.
    pub fn of(devices: &Devices, device: &BlockDevice) -> Self {
        let layer = |d: &BlockDevice| Layer { kind: kind(devices, d), node: d.node.clone() };
        Stack(layers_below(devices, device).map(layer).collect())
    }

    /// The layers, from the device down.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.0.iter()
    }

    /// The volume group that it is allocated from.
    pub fn group(&self) -> Option<&str> {
        self.0.iter().find_map(|layer| match &layer.kind {
            LayerKind::LogicalVolume { group, .. } => Some(group.as_str()),
            _ => None,
        })
    }
}

/// The device, the first device that it consists of, and so on.
fn layers_below<'a>(
    devices: &'a Devices,
    device: &'a BlockDevice,
) -> impl Iterator<Item = &'a BlockDevice> {
    let below = |here: &&'a BlockDevice| match here.slaves.first() {
        Some(slave) => devices.by_name(slave),
        None if here.is_whole_disk() => None,
        None => devices.by_name(&here.disk),
    };
    std::iter::successors(Some(device), below).take(MAX_DEPTH)
}

fn kind(devices: &Devices, device: &BlockDevice) -> LayerKind {
    let below = device.slaves.first().and_then(|slave| devices.by_name(slave));
    match (&device.dm_name, below.and_then(|d| d.content.kind())) {
        _ if !device.is_whole_disk() => LayerKind::Partition,
        (Some(_), Some(Kind::Luks1 | Kind::Luks2)) => LayerKind::Mapping,
        (Some(name), Some(Kind::Lvm)) => match group_and_volume(name) {
            Some((group, volume)) => LayerKind::LogicalVolume { group, volume },
            None => LayerKind::Mapper,
        },
        (Some(_), _) => LayerKind::Mapper,
        (None, _) if device.transport == "md" => LayerKind::Array,
        (None, _) => LayerKind::Disk,
    }
}

/// Splits a name that LVM joined with a hyphen. It doubles hyphens within the names (lvm(8), "VALID
/// NAMES").
fn group_and_volume(name: &str) -> Option<(String, String)> {
    let bytes = name.as_bytes();
    let mut at = 0;
    while let Some(hyphen) = name.get(at..)?.find('-').map(|found| at + found) {
        if bytes.get(hyphen + 1) != Some(&b'-') {
            let plain = |text: &str| text.replace("--", "-");
            return Some((plain(&name[..hyphen]), plain(&name[hyphen + 1..])));
        }
        at = hyphen + 2;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::probe::SuperBlock;

    fn device(name: &str, disk: &str, slave: Option<&str>, kind: Kind) -> BlockDevice {
        let mut device = BlockDevice::example(name, SuperBlock::new(kind));
        device.disk = disk.into();
        device.slaves = slave.into_iter().map(str::to_owned).collect();
        device
    }

    #[test]
    fn a_stack_begins_with_the_device() {
        let mut root = device("dm-1", "dm-1", Some("dm-0"), Kind::Ext4);
        root.dm_name = Some("my--vg-root".into());
        let mut opened = device("dm-0", "dm-0", Some("md0"), Kind::Lvm);
        opened.dm_name = Some("opened".into());
        let mut array = device("md0", "md0", Some("sda3"), Kind::Luks2);
        array.transport = "md".into();
        let partition = device("sda3", "sda", None, Kind::MdRaid);
        let disk = device("sda", "sda", None, Kind::Gpt);
        let devices: Devices = [root, opened, array, partition, disk].into_iter().collect();
        let stack = Stack::of(&devices, devices.by_name("dm-1").unwrap());
        let kinds: Vec<_> = stack.layers().map(|layer| layer.kind.clone()).collect();
        assert_eq!(
            kinds,
            [
                LayerKind::LogicalVolume { group: "my-vg".into(), volume: "root".into() },
                LayerKind::Mapping,
                LayerKind::Array,
                LayerKind::Partition,
                LayerKind::Disk,
            ]
        );
        assert_eq!(stack.group(), Some("my-vg"));
    }

    #[test]
    fn a_loop_in_sysfs_ends() {
        let one = device("dm-0", "dm-0", Some("dm-1"), Kind::Ext4);
        let other = device("dm-1", "dm-1", Some("dm-0"), Kind::Ext4);
        let devices: Devices = [one, other].into_iter().collect();
        let stack = Stack::of(&devices, devices.by_name("dm-0").unwrap());
        assert_eq!(stack.layers().count(), MAX_DEPTH);
    }

    #[test]
    fn names_of_lvm_are_split() {
        for (name, parts) in [
            ("vg-root", Some(("vg", "root"))),
            ("my--vg-a--b", Some(("my-vg", "a-b"))),
            ("plain", None),
            ("a--b", None),
        ] {
            let expected = parts.map(|(group, volume)| (group.to_owned(), volume.to_owned()));
            assert_eq!(group_and_volume(name), expected, "{name}");
        }
    }
}
