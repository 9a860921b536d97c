//! Decides whether a device may become a file system of the new BE.

use crate::environment::{BootEnvironment, Inventory};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::storage::device::BlockDevice;
use crate::storage::usage::Usage;

/// What the devices of a new BE are wanted for.
#[derive(Clone, Copy)]
pub(super) struct TargetRequest<'a> {
    /// The BE that is to be copied.
    pub(super) source: Option<&'a BootEnvironment>,
    /// The BE whose devices become the target.
    pub(super) replaced: Option<&'a BootEnvironment>,
    /// Devices are erased even if they hold data.
    pub(super) force: bool,
}

/// Refuses a device that is in use, that another BE uses, or that holds data that nobody has
/// consented to lose.
pub(super) fn refuse(
    host: &Host,
    inventory: &Inventory,
    device: &BlockDevice,
    request: &TargetRequest,
) -> Result<()> {
    let shown = || device.node.display().to_string();
    Usage::read(host)?.refuse_target(&inventory.devices, device)?;
    // A device that another BE shares with the replaced one, such as /home, is not erased either.
    let users = inventory.users_of_device(device);
    let is_replaced =
        |user: &&&BootEnvironment| request.replaced.is_some_and(|r| r.root == user.root);
    // Its fstab may name any device of this machine: only what was made for it is erased with it.
    let is_made = request.replaced.is_some_and(|old| old.made_devices().contains(&&device.node));
    match users.iter().find(|user| !is_replaced(user)) {
        Some(user) => Err(used(device, user, request.source).into()),
        None if is_made => Ok(()),
        None if device.content.is_blank() || request.force => Ok(()),
        None => {
            Err(Refusal::HoldsData { device: shown(), content: device.content.description() }
                .into())
        }
    }
}

/// The refusal of a device that a BE uses. `--replace` is no advice for the source, nor for a
/// device that is only a line in an fstab: it would erase that whole BE.
fn used(device: &BlockDevice, user: &BootEnvironment, source: Option<&BootEnvironment>) -> Refusal {
    let (shown, owner) = (device.node.display().to_string(), user.reference.clone());
    let is_source = source.is_some_and(|source| source.root == user.root);
    let line = user.file_systems.iter().find(|f| f.device.as_ref() == Some(&device.node));
    if user.root.device == device.node {
        return match is_source {
            true => Refusal::IsSource { device: shown, name: owner },
            false => Refusal::PartOfEnvironment { device: shown, owner },
        };
    }
    match line {
        Some(line) if is_source || !user.has_made(&device.node) => {
            let mountpoint = match line.fs_type.as_str() {
                "swap" => "swap space".into(),
                _ => line.mountpoint.display().to_string(),
            };
            Refusal::InFstab { device: shown, mountpoint, owner }
        }
        _ => Refusal::PartOfEnvironment { device: shown, owner },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{FileSystemUse, MadeDevice, Purpose};
    use crate::loader::testing::environment;
    use crate::storage::probe::{Kind, SuperBlock};

    #[test]
    fn a_device_of_another_be_is_refused_with_the_advice_that_helps() {
        let mut first = environment("first", "aaaa-01");
        first.root.device = "/dev/sdy1".into();
        first.file_systems = vec![
            FileSystemUse::example("/mnt/old", "/dev/sdy2"),
            FileSystemUse::example("/var", "/dev/sdy3"),
        ];
        let purpose = Purpose::FileSystem("/var".into());
        first.made = vec![MadeDevice { purpose, device: "/dev/sdy3".into() }];
        let other = environment("second", "aaaa-02");
        let refused = |name: &str, source: &BootEnvironment| {
            let device = BlockDevice::example(name, SuperBlock::new(Kind::Ext4));
            used(&device, &first, Some(source))
        };
        for (name, source, is_replace, words) in [
            ("sdy1", &first, false, "which is to be copied"),
            ("sdy1", &other, true, "--replace"),
            ("sdy2", &first, false, "/mnt/old in the fstab"),
            ("sdy2", &other, false, "/mnt/old in the fstab"),
            ("sdy3", &first, false, "/var in the fstab"),
            ("sdy3", &other, true, "--replace"),
        ] {
            let said = refused(name, source).to_string();
            assert!(said.contains(words), "{name}: {said}");
            assert_eq!(said.contains("--replace"), is_replace, "{name}: {said}");
        }
    }
}
