//! What loads a BE's kernel, and the boot entry that makes it selectable (DESIGN.md, "Loaders").

pub mod esp_location;
pub mod firmware;
pub mod grub;
#[cfg(test)]
pub(crate) mod testing;
pub mod trial_record;

use std::path::Path;

use boot::efi::BootEntries;
use boot::esp::Esp;

use crate::environment::Inventory;
use crate::environment::{BootEnvironment, Descriptor, Id, OperatingSystem, Trial};
use crate::error::{Refusal, Result};
use crate::host::Host;
use esp_location::{EspLocation, esp_error};
use grub::GrubEfi;
use trial_record::Record;

/// A BE with its file systems mounted, as a loader needs it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its identity and name.
    pub descriptor: &'a Descriptor,
    /// As it was found, or will be.
    pub environment: &'a BootEnvironment,
    /// Where its whole tree is mounted, for writing; `/` for the running one.
    pub root: &'a Path,
}

impl<'a> Subject<'a> {
    /// The BE of `descriptor`, mounted at `root`.
    pub fn new(
        descriptor: &'a Descriptor,
        environment: &'a BootEnvironment,
        root: &'a Path,
    ) -> Self {
        Subject { descriptor, environment, root }
    }
}

/// What makes one BE startable.
pub trait Loader {
    /// Runs before anything is written: firmware, ESP, space, and that `source`, the BE the target
    /// will be a copy of, has what the loader is made with. Returns what the plan should say.
    ///
    /// # Errors
    /// A [`Refusal`] that says what is missing, and what to do.
    fn prove(&self, source: &BootEnvironment) -> Result<Vec<String>>;

    /// Runs when the BE's files are complete and localized, and whenever its loader is made anew:
    /// writes the loader's files, then makes the boot entry lead to them. A new entry is last in
    /// `BootOrder`, and inactive. Returns its number.
    ///
    /// # Errors
    /// What was there before leads to the BE as it did.
    fn install(&self, subject: &Subject) -> Result<u16>;

    /// Runs after the last sync of an operation, with `true`, and before its first write, with
    /// `false`: whether the firmware may start the BE by itself.
    ///
    /// # Errors
    /// There is no entry, or the firmware refuses.
    fn set_active(&self, id: Id, active: bool) -> Result<()>;

    /// Runs before a switch and for `be check`: why entry and files would not lead to the BE.
    /// Writes nothing.
    ///
    /// # Errors
    /// They cannot be read.
    fn problems(&self, id: Id) -> Result<Vec<String>>;
}

/// The loader of a BE that is about to be made.
///
/// # Errors
/// [`Refusal::NoFirmwareVariables`], [`Refusal::NoEsp`].
pub fn for_new<'a>(
    host: &'a Host,
    inventory: &'a Inventory,
    target: &BootEnvironment,
) -> Result<Box<dyn Loader + 'a>> {
    let entries = firmware::boot_entries(host)?;
    let location = location(host, inventory, target, &entries)?;
    Ok(Box::new(GrubEfi::new(host, inventory, target, location)?))
}

/// The loader of a BE that exists: its files stay on the ESP that its boot entry names, where that
/// is still there.
///
/// # Errors
/// As [`for_new`].
pub fn for_environment<'a>(
    host: &'a Host,
    inventory: &'a Inventory,
    environment: &BootEnvironment,
) -> Result<Box<dyn Loader + 'a>> {
    for_new(host, inventory, environment)
}

fn location(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
    entries: &BootEntries,
) -> Result<EspLocation> {
    if let Some(descriptor) = &environment.descriptor {
        for entry in firmware::entries_of(entries, descriptor.id)? {
            if let Some(partuuid) = entry.option.path.partuuid()
                && let Some(found) = EspLocation::by_partuuid(&inventory.devices, partuuid)?
            {
                return Ok(found);
            }
        }
    }
    EspLocation::choose(host, &inventory.devices, environment, inventory.running())
}

/// Takes a BE out of the firmware's menu, then its directory off every ESP that has it (DESIGN.md,
/// "Order of deletion"). What is gone already is no error, nor is a machine without UEFI.
///
/// # Errors
/// A variable or an ESP cannot be written; it can be run again.
pub fn remove(host: &Host, inventory: &Inventory, id: Id) -> Result<()> {
    if let Ok(entries) = firmware::boot_entries(host) {
        for entry in firmware::entries_of(&entries, id)? {
            entries.remove(entry.number).map_err(firmware::writing)?;
        }
    }
    for location in EspLocation::all(&inventory.devices) {
        let has_it = location.mount_read_only(host, &inventory.devices).and_then(|mounted| {
            let directories = mounted
                .esp()
                .directories()
                .map_err(esp_error("looking for the loader's directory"))?;
            Ok(directories.iter().any(|f| f.eq_ignore_ascii_case(&id.short())))
        });
        match has_it {
            Ok(true) => {}
            Ok(false) => continue,
            // An ESP that cannot be read has no loader that works.
            Err(e) => {
                log::warn!("{e}");
                continue;
            }
        }
        let mounted = location.mount(host, &inventory.devices)?;
        let removing = format!("removing the loader's directory on {}", location.device.display());
        mounted.esp().remove_tree(&Esp::directory_of(&id.short())).map_err(esp_error(&removing))?;
        mounted.close()?;
    }
    Ok(())
}

/// Refuses to take away the last BE that the firmware could start.
///
/// # Errors
/// The refusal.
pub fn refuse_last(host: &Host, environment: &BootEnvironment) -> Result<()> {
    let Some(descriptor) = &environment.descriptor else { return Ok(()) };
    let Ok(entries) = firmware::boot_entries(host) else { return Ok(()) };
    if firmware::entries_of(&entries, descriptor.id)?.is_empty()
        || !firmware::others(&entries, descriptor.id)?.is_empty()
    {
        return Ok(());
    }
    Err(Refusal::Other(format!(
        "'{}' is the only thing in BootOrder that the firmware could start: make another boot \
        environment first",
        descriptor.name
    ))
    .into())
}

/// Has the firmware's menu show a BE's new name.
///
/// # Errors
/// The entry cannot be written. A BE without one, or a machine without UEFI, is no error.
pub fn set_description(host: &Host, descriptor: &Descriptor, os: &OperatingSystem) -> Result<()> {
    let Ok(entries) = firmware::boot_entries(host) else { return Ok(()) };
    for entry in firmware::entries_of(&entries, descriptor.id)? {
        let mut option = entry.option;
        option.description = firmware::description(descriptor.name.as_str(), os);
        entries.replace(entry.number, &option).map_err(firmware::writing)?;
    }
    Ok(())
}

/// How the trial of the BE whose loader lies in this directory stands, by the environment block
/// beside its stub; `None` also where that is not there, or damaged.
pub(crate) fn trial_in(esp: &Esp, directory: &str, running: bool, is_next: bool) -> Option<Trial> {
    let block = boot::grubenv::read(&environment_path(esp, directory)).ok()?;
    Record::read(&block).standing(running, is_next)
}

/// Where that block lies.
pub(crate) fn environment_path(esp: &Esp, directory: &str) -> std::path::PathBuf {
    esp.root().join(Esp::directory_of(directory)).join(grub::stub::ENVIRONMENT)
}
