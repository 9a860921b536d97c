//! The loader of a BE and its boot entry (docs/design.md, "Loaders"). The rest of the program calls
//! the [`Loader`] trait. Only this file knows which code stands for the loader that a
//! descriptor names.
//!
//! Three files write to an ESP: `grub/generation.rs` (images and stubs), `trial_record.rs` (in place)
//! and `firmware/removal.rs` (it removes directories). A test holds this list
//! (`tests/tests/house.rs`).

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
use crate::environment::{BootEnvironment, Descriptor, OperatingSystem};
use crate::error::{Refusal, Result};
use crate::host::Host;

pub use all_entries::{AllEntries, UnconfirmedTrial};
pub use contract::{BootState, InstallTarget, Loader, LoaderStep, Stage};
pub use problem::{LoaderFile, LoaderProblem};

/// The loader that a BE's descriptor names. This reads nothing from the machine: one that cannot
/// have such a loader is refused by [`Loader::prove`].
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

/// Makes the firmware's menu show a BE's new name. Does nothing for a BE without a boot entry, or
/// on a machine without UEFI.
///
/// # Errors
/// The entry cannot be written.
pub fn set_description(host: &Host, descriptor: &Descriptor, os: &OperatingSystem) -> Result<()> {
    let renamed = BootEnvironment {
        descriptor: Some(descriptor.clone()),
        os: os.clone(),
        ..BootEnvironment::empty("/".as_ref())
    };
    for_environment(host, &Inventory::default(), &renamed)?.rename(&descriptor.name)
}
