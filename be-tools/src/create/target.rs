//! Whether a device may become a file system of the new BE.

use std::path::Path;

use crate::discover::Inventory;
use crate::environment::BootEnvironment;
use crate::error::{Error, Refusal, Result};
use crate::storage::usage::Usage;
use crate::system::System;

/// Refuses a device that is used, belongs to another BE than `replaced`, or holds data without `force`.
///
/// # Errors
/// The refusal, naming the device and the way out.
pub(super) fn refuse(
    system: &System,
    inventory: &Inventory,
    node: &Path,
    replaced: Option<&BootEnvironment>,
    force: bool,
) -> Result<()> {
    let device = inventory.devices.by_node(node).ok_or_else(|| {
        Error::Usage(format!("{} is no block device here: see `lsblk` for their names", node.display()))
    })?;
    let shown = || device.node.display().to_string();
    Usage::read(system)?.refuse_target(&inventory.devices, device)?;
    let owner = inventory.environments.iter().find(|e| e.own_devices().contains(&&device.node));
    let is_replaced = |owner: &BootEnvironment| replaced.is_some_and(|r| r.root == owner.root);
    match owner {
        Some(owner) if is_replaced(owner) => Ok(()),
        Some(owner) => {
            Err(Refusal::PartOfEnvironment { device: shown(), owner: owner.reference.clone() }.into())
        }
        None if device.content.is_blank() || force => Ok(()),
        None => Err(Refusal::HoldsData { device: shown(), content: device.content.description() }.into()),
    }
}
