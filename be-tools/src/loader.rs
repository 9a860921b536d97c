//! What loads a BE's kernel, and the boot entry that makes it selectable (DESIGN.md, "Loaders").
//! What the rest of the program calls; which loader it is, is decided here alone.

mod all_entries;
mod contract;
pub mod esp_location;
pub mod firmware;
pub mod grub;
mod problem;
#[cfg(test)]
mod promises;
#[cfg(test)]
pub(crate) mod testing;
pub mod trial_record;

use crate::environment::Inventory;
use crate::environment::{BootEnvironment, Descriptor, Id, OperatingSystem};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;

pub use all_entries::{AllEntries, Unconfirmed};
pub use contract::{BootState, Loader, LoaderStep, Stage, Subject, run};
pub use problem::{LoaderFile, Problem};

/// The loader of a BE: the one that its descriptor names. Nothing is looked at yet: a machine that
/// cannot have such a loader is refused by [`Loader::prove`].
///
/// # Errors
/// [`Refusal::UnknownLoader`]
pub fn for_environment<'a>(
    host: &'a Host,
    inventory: &'a Inventory,
    environment: &BootEnvironment,
) -> Result<Box<dyn Loader + 'a>> {
    let name = environment.descriptor.as_ref().map(|d| d.loader.clone()).unwrap_or_default();
    match name.as_str() {
        grub::NAME => Ok(Box::new(grub::GrubEfi::new(host, inventory, environment))),
        unknown => Err(Refusal::UnknownLoader {
            name: environment.name().to_owned(),
            loader: unknown.to_owned(),
        }
        .into()),
    }
}

/// The loader of a BE that is about to be made.
///
/// # Errors
/// As [`for_environment`].
pub fn for_new<'a>(
    host: &'a Host,
    inventory: &'a Inventory,
    target: &BootEnvironment,
) -> Result<Box<dyn Loader + 'a>> {
    for_environment(host, inventory, target)
}

/// Takes a BE out of what points at it, then its loader away (DESIGN.md, "Order of deletion"). What
/// is gone already is no error, nor is a machine without UEFI.
///
/// # Errors
/// A variable or an ESP cannot be written; it can be run again.
pub fn remove(host: &Host, inventory: &Inventory, id: Id) -> Result<()> {
    let is_it = |e: &&BootEnvironment| e.descriptor.as_ref().is_some_and(|d| d.id == id);
    let environment = inventory.environments.iter().find(is_it).ok_or_else(|| {
        Error::Failed(format!("no boot environment has the id {id}: look again with `be list`"))
    })?;
    run(&for_environment(host, inventory, environment)?.remove()?)
}

/// The steps of [`remove`], for a plan.
///
/// # Errors
/// What is there now cannot be read.
pub fn removal_lines(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Result<Vec<String>> {
    let loader = for_environment(host, inventory, environment)?;
    Ok(loader.remove()?.iter().map(ToString::to_string).collect())
}

/// Refuses to take away the last BE that the machine could start.
///
/// # Errors
/// The refusal.
pub fn refuse_last(host: &Host, environment: &BootEnvironment) -> Result<()> {
    for_environment(host, &Inventory::default(), environment)?.prove_removal()
}

/// Has menus show a BE's new name.
///
/// # Errors
/// The entry cannot be written. A BE without one, or a machine without UEFI, is no error.
pub fn set_description(host: &Host, descriptor: &Descriptor, os: &OperatingSystem) -> Result<()> {
    let renamed = BootEnvironment {
        descriptor: Some(descriptor.clone()),
        os: os.clone(),
        ..BootEnvironment::empty("/".as_ref())
    };
    for_environment(host, &Inventory::default(), &renamed)?.rename(&descriptor.name)
}
