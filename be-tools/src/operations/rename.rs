//! `be rename` and `be describe`: what a descriptor says of itself.

use crate::discover;
use crate::environment::Inventory;
use crate::environment::mounted::Access;
use crate::environment::mounted::MountedEnvironment;
use crate::environment::{BootEnvironment, DESCRIPTOR_PATH, Descriptor, Name};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::loader;
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::session::lock::Lock;
use crate::storage::namespace;

/// Gives a BE another name. Its id, loader directory and boot entry number stay; the entry's text
/// follows.
///
/// # Errors
/// When the name is taken or the BE is unmanaged.
pub fn rename(host: &Host, reference: &str, name: Name, report: &mut dyn Report) -> Result<()> {
    let _lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    let mut descriptor = managed(environment)?.clone();
    loader::for_environment(host, &inventory, environment)?;
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
    store(host, &inventory, environment, &descriptor)?;
    loader::set_description(host, &descriptor, &environment.os)
}

/// Sets a BE's description.
///
/// # Errors
/// When the BE is unmanaged or cannot be written.
pub fn describe(host: &Host, reference: &str, text: String, report: &mut dyn Report) -> Result<()> {
    let _lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    let mut descriptor = managed(environment)?.clone();
    loader::for_environment(host, &inventory, environment)?;
    let title = format!("Describe boot environment '{}' as '{text}'", environment.name());
    if !report.confirm(&plan(title, environment))? {
        return Ok(());
    }
    descriptor.description = text;
    store(host, &inventory, environment, &descriptor)
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
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
    descriptor: &Descriptor,
) -> Result<()> {
    namespace::enter_private_namespace()?;
    let mounted = MountedEnvironment::mount_root(host, inventory, environment, Access::ReadWrite)?;
    descriptor.store(&RootDir::open(mounted.root())?)
}
