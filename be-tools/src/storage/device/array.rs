//! File systems that span several devices (btrfs(5), "MULTIPLE DEVICES").

use super::block_device::BlockDevice;
use crate::storage::probe::SuperBlock;

/// Whether these devices can be those of one file system: they have its UUID, each is another one
/// of its devices, and there are no more than it has. A copy of one of them is the same one again.
pub(crate) fn is_one_array(members: &[&BlockDevice]) -> bool {
    let found: Vec<&SuperBlock> = members.iter().filter_map(|d| d.super_block()).collect();
    let Some(first) = found.first() else { return false };
    let is_member = |other: &&SuperBlock| {
        let most = usize::try_from(other.devices).unwrap_or(usize::MAX);
        other.uuid == first.uuid && other.devices > 1 && found.len() <= most
    };
    let mut ids: Vec<u64> = found.iter().filter_map(|s| s.device_id).collect();
    ids.sort_unstable();
    ids.dedup();
    found.iter().all(is_member) && ids.len() == members.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::probe::Kind;

    fn member(uuid: &str, device_id: u64, devices: u64) -> BlockDevice {
        let found = SuperBlock {
            uuid: uuid.into(),
            device_id: Some(device_id),
            devices,
            ..SuperBlock::new(Kind::Btrfs)
        };
        BlockDevice::example("vda1", found)
    }

    #[test]
    fn each_device_of_an_array_is_there_at_most_once() {
        for (members, expected) in [
            (vec![member("a0", 1, 2), member("a0", 2, 2)], true),
            // One is missing.
            (vec![member("a0", 1, 3), member("a0", 3, 3)], true),
            (vec![member("a0", 2, 2)], true),
            (vec![member("a0", 1, 2), member("a0", 1, 2)], false),
            (vec![member("a0", 1, 2), member("a0", 2, 2), member("a0", 3, 2)], false),
            // One pretends that there are more.
            (vec![member("a0", 1, 2), member("a0", 2, 2), member("a0", 3, 9)], false),
            (vec![member("a0", 1, 2), member("b0", 2, 2)], false),
            (vec![member("a0", 1, 1)], false),
            (vec![BlockDevice::bare("/dev/vda".as_ref())], false),
        ] {
            let members: Vec<&BlockDevice> = members.iter().collect();
            assert_eq!(is_one_array(&members), expected, "{members:?}");
        }
    }
}
