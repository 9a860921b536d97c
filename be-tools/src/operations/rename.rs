//! `be rename` and `be describe`: what a descriptor says of itself.

use crate::discover::{self, Inventory};
use crate::environment::mounted::Access;
use crate::environment::mounted::MountedEnvironment;
use crate::environment::{BootEnvironment, DESCRIPTOR_PATH, Descriptor, Name};
use crate::error::{Refusal, Result};
use crate::host::System;
use crate::loader;
use crate::plan::{Plan, Report};
use crate::root_dir::Rooted;
use crate::session::lock::Lock;
use crate::storage::mounts;

/// Gives a BE another name. Its id, loader directory and boot entry number stay; the entry's text
/// follows.
///
/// # Errors
/// When the name is taken or the BE is unmanaged.
pub fn rename(system: &System, reference: &str, name: Name, report: &mut dyn Report) -> Result<()> {
    let _lock = Lock::acquire(system)?;
    let inventory = discover::discover(system)?;
    let environment = inventory.find(reference)?;
    let mut descriptor = managed(environment)?.clone();
    if descriptor.name != name {
        inventory.refuse_taken(&name)?;
    }
    let mut plan =
        plan(format!("Rename boot environment '{}' to '{name}'", environment.name()), environment);
    plan.steps.push("give its boot entry the new name".into());
    if !report.confirm(&plan)? {
        return Ok(());
    }
    descriptor.name = name;
    store(system, &inventory, environment, &descriptor)?;
    loader::set_description(system, &descriptor, &environment.os)
}

/// Sets a BE's description.
///
/// # Errors
/// When the BE is unmanaged or cannot be written.
pub fn describe(
    system: &System,
    reference: &str,
    text: String,
    report: &mut dyn Report,
) -> Result<()> {
    let _lock = Lock::acquire(system)?;
    let inventory = discover::discover(system)?;
    let environment = inventory.find(reference)?;
    let mut descriptor = managed(environment)?.clone();
    let title = format!("Describe boot environment '{}' as '{text}'", environment.name());
    if !report.confirm(&plan(title, environment))? {
        return Ok(());
    }
    descriptor.description = text;
    store(system, &inventory, environment, &descriptor)
}

fn managed(environment: &BootEnvironment) -> Result<&Descriptor> {
    environment.descriptor.as_ref().ok_or_else(|| {
        Refusal::Other(format!(
            "'{}' is unmanaged and has no descriptor: boot it and run `be adopt` there",
            environment.reference
        ))
        .into()
    })
}

fn plan(title: String, environment: &BootEnvironment) -> Plan {
    let step = format!("write /{DESCRIPTOR_PATH} on {}", environment.root.device.display());
    Plan { title, steps: vec![step], ..Plan::default() }
}

/// Writes a changed descriptor where it lies.
fn store(
    system: &System,
    inventory: &Inventory,
    environment: &BootEnvironment,
    descriptor: &Descriptor,
) -> Result<()> {
    mounts::enter_private_namespace()?;
    let mounted =
        MountedEnvironment::mount_root(system, inventory, environment, Access::ReadWrite)?;
    descriptor.store(&Rooted::open(mounted.root())?)
}
