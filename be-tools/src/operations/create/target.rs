//! Decides whether a device may become a file system of the new BE.

use crate::environment::BootEnvironment;
use crate::environment::Inventory;
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::storage::device::BlockDevice;
use crate::storage::usage::Usage;

/// Refuses a device that is in use, belongs to a BE other than `replaced`, or holds data if `force`
/// is not set.
///
/// # Errors
/// The refusal, which names the device and says what to do.
pub(super) fn refuse(
    host: &Host,
    inventory: &Inventory,
    device: &BlockDevice,
    replaced: Option<&BootEnvironment>,
    force: bool,
) -> Result<()> {
    let shown = || device.node.display().to_string();
    Usage::read(host)?.refuse_target(&inventory.devices, device)?;
    // A device that another BE shares with the replaced one, such as /home, is not erased either.
    let users = inventory.users_of_device(device);
    let is_replaced = |user: &&&BootEnvironment| replaced.is_some_and(|r| r.root == user.root);
    // Its fstab may name any device of this machine: only what was made for it is erased with it.
    let is_made = replaced.is_some_and(|old| old.made_devices().contains(&&device.node));
    match users.iter().find(|user| !is_replaced(user)) {
        Some(other) => {
            Err(Refusal::PartOfEnvironment { device: shown(), owner: other.reference.clone() }
                .into())
        }
        None if is_made => Ok(()),
        None if device.content.is_blank() || force => Ok(()),
        None => {
            Err(Refusal::HoldsData { device: shown(), content: device.content.description() }
                .into())
        }
    }
}
