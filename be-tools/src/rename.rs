//! `be rename` and `be describe`: what a descriptor says of itself.

use crate::discover;
use crate::environment::{Descriptor, Name};
use crate::error::{Refusal, Result};
use crate::loader;
use crate::mounted::Access;
use crate::mounted::MountedEnvironment;
use crate::rooted::Rooted;
use crate::storage::{lock::Lock, mounts};
use crate::system::System;

/// Gives a BE another name. Its id, loader folder and boot entry number stay; the entry's text follows.
///
/// # Errors
/// When the name is taken or the BE is unmanaged.
pub fn rename(system: &System, reference: &str, name: Name) -> Result<()> {
    let _lock = Lock::acquire(system)?;
    let inventory = discover::discover(system)?;
    let environment = inventory.find(reference)?;
    let same = environment.descriptor.as_ref().is_some_and(|d| d.name == name);
    if !same {
        inventory.refuse_taken(&name)?;
    }
    let descriptor = edit(system, &inventory, environment, |d| d.name = name)?;
    loader::set_description(system, &descriptor, &environment.os)
}

/// Sets a BE's description.
///
/// # Errors
/// When the BE is unmanaged or cannot be written.
pub fn describe(system: &System, reference: &str, text: String) -> Result<()> {
    let _lock = Lock::acquire(system)?;
    let inventory = discover::discover(system)?;
    let environment = inventory.find(reference)?;
    edit(system, &inventory, environment, |d| d.description = text).map(drop)
}

/// Changes a descriptor where it lies.
fn edit(
    system: &System,
    inventory: &discover::Inventory,
    environment: &crate::environment::BootEnvironment,
    change: impl FnOnce(&mut Descriptor),
) -> Result<Descriptor> {
    let Some(descriptor) = &environment.descriptor else {
        return Err(Refusal::Other(format!(
            "'{}' is unmanaged and has no descriptor: boot it and run `be adopt` there",
            environment.reference
        ))
        .into());
    };
    let mut descriptor = descriptor.clone();
    change(&mut descriptor);
    mounts::enter_private_namespace()?;
    let mounted = MountedEnvironment::mount_root(system, inventory, environment, Access::ReadWrite)?;
    descriptor.store(&Rooted::open(mounted.root())?)?;
    Ok(descriptor)
}
