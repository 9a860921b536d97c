//! The file systems that may hold a root.

use crate::storage::device::array::is_one_array;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::mounts::Mounts;
use crate::storage::volume::{FileSystem, Volume};

/// The file systems that may hold a root.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) file_systems: Vec<FileSystem>,
    /// Sentences about those that are left out, because it is not known which devices they have.
    pub(super) warnings: Vec<String>,
}

impl Candidates {
    /// Those on `devices`. One that is part of something else, such as an array or a volume group,
    /// is not among them. A file system that spans several devices is there once: on the device
    /// that `mounts` has, else on the first.
    pub(super) fn find(devices: &Devices, mounts: &Mounts) -> Self {
        let may_hold_root = |device: &&BlockDevice| {
            let found = device.super_block();
            found.is_some_and(|s| s.kind.can_hold_root()) && device.holders.is_empty()
        };
        let usable: Vec<&BlockDevice> = devices.iter().filter(may_hold_root).collect();
        let mut candidates = Candidates::default();
        let mut spanned = Vec::new();
        for device in &usable {
            let Some(found) = device.super_block() else { continue };
            if found.devices <= 1 {
                candidates.add(devices, device);
                continue;
            }
            if spanned.contains(&&found.uuid) {
                continue;
            }
            spanned.push(&found.uuid);
            let is_member = |other: &&&BlockDevice| {
                other.super_block().is_some_and(|s| s.devices > 1 && s.uuid == found.uuid)
            };
            let members: Vec<&BlockDevice> = usable.iter().filter(is_member).copied().collect();
            let is_mounted = |device: &&&BlockDevice| mounts.of(device).next().is_some();
            let mounted = members.iter().find(is_mounted).copied();
            let is_known = is_one_array(&members);
            if !is_known {
                candidates.warnings.push(not_known(&members, mounted));
            }
            if let Some(device) = mounted.or_else(|| is_known.then_some(device)) {
                candidates.add(devices, device);
            }
        }
        candidates
    }

    fn add(&mut self, devices: &Devices, device: &BlockDevice) {
        self.file_systems.extend(FileSystem::found(Volume::of(devices, device)));
    }
}

/// The warning about devices of which some pretend to be of an array.
fn not_known(members: &[&BlockDevice], mounted: Option<&BlockDevice>) -> String {
    let nodes: Vec<_> = members.iter().map(|d| d.node.display().to_string()).collect();
    let nodes = nodes.join(" and ");
    match mounted {
        Some(mounted) => format!(
            "{nodes} have the same UUID and are not devices of one file system: only the one that \
            is mounted, with {}, was read; disconnect the copy",
            mounted.node.display()
        ),
        None => format!(
            "{nodes} have the same UUID and are not devices of one file system: which of them \
            belong together is not known, so none was read; disconnect the copy"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::probe::{Kind, SuperBlock};

    fn member(name: &str, device_id: u64, devices: u64) -> BlockDevice {
        let found = SuperBlock {
            uuid: "aaaa-01".into(),
            device_id: Some(device_id),
            devices,
            ..SuperBlock::new(Kind::Btrfs)
        };
        BlockDevice::example(name, found)
    }

    /// The devices on which a file system is read, and the warnings.
    fn found(devices: Vec<BlockDevice>, mounts: &str) -> (Vec<String>, Vec<String>) {
        let devices: Devices = devices.into_iter().collect();
        let found = Candidates::find(&devices, &Mounts::parse(mounts.as_bytes()));
        let names = found.file_systems.iter().map(|f| f.volume.device.name.clone()).collect();
        (names, found.warnings)
    }

    /// The array of the running system, and a disk that pretends to be one of its devices, with a
    /// kernel name that comes first.
    fn with_a_pretender(device_id: u64) -> Vec<BlockDevice> {
        vec![member("vda1", device_id, 2), member("vdb1", 1, 2), member("vdc1", 2, 2)]
    }

    const MOUNTED: &str = "40 1 0:35 / / rw - btrfs /dev/vdb1 rw\n";

    #[test]
    fn an_array_is_read_once() {
        let array = || vec![member("vdb1", 1, 2), member("vdc1", 2, 2)];
        assert_eq!(found(array(), ""), (vec!["vdb1".to_owned()], Vec::new()));
        let mounted = MOUNTED.replace("vdb1", "vdc1");
        assert_eq!(found(array(), &mounted), (vec!["vdc1".to_owned()], Vec::new()));
        // A device that another one is stacked on is no device of it.
        let mut below = member("vda1", 1, 2);
        below.holders = vec!["dm-0".into()];
        let held = [vec![below], array()].concat();
        assert_eq!(found(held, ""), (vec!["vdb1".to_owned()], Vec::new()));
    }

    #[test]
    fn a_disk_that_pretends_to_be_of_an_array_is_not_taken_for_it() {
        for device_id in [1, 2, 3] {
            let (names, warnings) = found(with_a_pretender(device_id), "");
            assert_eq!(names, Vec::<String>::new(), "{device_id}");
            let [warning] = &warnings[..] else { panic!("{warnings:?}") };
            assert!(warning.starts_with("/dev/vda1 and /dev/vdb1 and /dev/vdc1 have"), "{warning}");
        }
        // It is the only one with that UUID, so nothing is hidden.
        assert_eq!(found(vec![member("vda1", 1, 2)], "").0, ["vda1"]);
    }

    #[test]
    fn the_running_system_is_found_whatever_pretends_to_be_of_its_array() {
        let (names, warnings) = found(with_a_pretender(1), MOUNTED);
        assert_eq!(names, ["vdb1"]);
        assert!(warnings[0].contains("with /dev/vdb1, was read"), "{warnings:?}");
    }

    #[test]
    fn a_pretender_hides_no_file_system_on_one_device() {
        let devices = vec![member("vda1", 1, 2), member("vdb1", 1, 1)];
        assert_eq!(found(devices, "").0, ["vda1", "vdb1"]);
    }
}
