//! File systems that were not cleanly unmounted: what they hold is known only after their journals
//! were replayed.

use crate::environment::{BootEnvironment, Inventory};
use crate::error::Result;
use crate::host::Host;
use crate::storage::device::BlockDevice;
use crate::storage::mounts::Mounts;

/// Whether the journal of a device would have to be replayed. That of a mounted one is in use.
pub(crate) fn is_unclean(device: &BlockDevice, mounts: &Mounts) -> bool {
    device.super_block().is_some_and(|s| s.dirty) && mounts.of(device).next().is_none()
}

/// The devices of a BE that are unclean. Call this before any of them is mounted.
///
/// # Errors
/// The table of mounts cannot be read.
pub(crate) fn unclean<'a>(
    host: &Host,
    inventory: &'a Inventory,
    environment: &BootEnvironment,
) -> Result<Vec<&'a BlockDevice>> {
    let mounts = Mounts::read(host)?;
    let own = environment.own_devices().into_iter();
    let devices = own.filter_map(|node| inventory.devices.by_node(node));
    Ok(devices.filter(|device| is_unclean(device, &mounts)).collect())
}
