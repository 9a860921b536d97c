//! `be run`: a BE is mounted as a whole, in a private namespace, and the command runs in it.

use std::ffi::OsString;
use std::path::PathBuf;

use super::Inside;
use crate::discover::{self, Inventory};
use crate::environment::BootEnvironment;
use crate::error::{Error, Refusal, Result};
use crate::mounted::{Access, MountedEnvironment};
use crate::storage::lock::Lock;
use crate::storage::mounts;
use crate::system::System;

/// Runs a command in the BE that `reference` names, and returns its exit status as env(1) does.
///
/// # Errors
/// When it is the running BE, is incomplete, or cannot be mounted.
pub fn in_environment(
    system: &System,
    reference: &str,
    privileged: bool,
    command: &[OsString],
) -> Result<u8> {
    let _lock = Lock::acquire(system)?;
    let inventory = discover::discover(system)?;
    let environment = inventory.find(reference)?;
    refuse(environment)?;
    mounts::enter_private_namespace()?;
    let mounted = MountedEnvironment::mount_system(system, &inventory, environment, Access::ReadWrite)?;
    let devices = block_devices(&inventory, environment);
    let shared: Vec<PathBuf> =
        environment.file_systems.iter().filter(|f| f.shared).map(|f| f.mountpoint.clone()).collect();
    let inside = Inside {
        root: mounted.root(),
        block_devices: &devices,
        esp: None,
        shared: &shared,
        privileged,
        interactive: true,
    };
    let status = inside.run(command)?;
    u8::try_from(status).map_err(|_| Error::Failed(format!("the command ended with status {status}")))
}

fn refuse(environment: &BootEnvironment) -> Result<()> {
    if environment.running {
        return Err(Refusal::Running {
            name: environment.name().into(),
            way_out: "run the command as it is".into(),
        }
        .into());
    }
    environment.descriptor.as_ref().map_or(Ok(()), |d| d.refuse_incomplete())?;
    Ok(())
}

/// The BE's own devices, with the UUIDs under which its programs look for them.
fn block_devices(inventory: &Inventory, environment: &BootEnvironment) -> Vec<(PathBuf, Option<String>)> {
    let own = environment.own_devices().into_iter();
    own.map(|node| (node.clone(), inventory.devices.uuid_on(node))).collect()
}
