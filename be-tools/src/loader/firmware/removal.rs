//! What the removal of a BE takes away with it: its boot entries, and its directory on the ESPs.
//!
//! Both are known by the first eight digits of the BE's id. A copy of the BE has the same, and any
//! disk may claim them; whether the files there start this BE decides.

use boot::efi::BootEntry;
use boot::esp::Esp;

use super::lines;
use crate::environment::Id;
use crate::error::Result;
use crate::host::Host;
use crate::loader::esp_location::{EspLocation, esp_error};
use crate::storage::device::Devices;

/// Whose the files in a BE's directory on an ESP are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// They start the BE.
    This,
    /// They start nothing, or there are none.
    Nobody,
    /// They do not start the BE, or it is not known whether they do: a phrase says why.
    Another(String),
}

/// What is removed, and what is left alone.
#[derive(Debug, Default)]
pub struct Removal {
    /// The numbers of the BE's entries.
    pub entries: Vec<u16>,
    /// The ESPs from which the directory is removed.
    esps: Vec<EspLocation>,
    kept_entries: Vec<(u16, String)>,
    kept_directories: Vec<(EspLocation, String)>,
    directory: String,
}

impl Removal {
    /// What can be removed of `entries`, which have the digits of `id`, and of the directory on the
    /// ESPs that they name and on the `chosen` one.
    ///
    /// # Errors
    /// [`Refusal::AmbiguousEsp`](crate::Refusal::AmbiguousEsp)
    pub fn find(
        host: &Host,
        devices: &Devices,
        id: Id,
        entries: Vec<BootEntry>,
        chosen: Option<EspLocation>,
        owner: impl Fn(&Esp) -> Owner,
    ) -> Result<Self> {
        let mut found = Removal { directory: id.short(), ..Removal::default() };
        let owner_on = |esp: &EspLocation| match esp.mount_read_only(host, devices) {
            Ok(mounted) => owner(mounted.esp()),
            Err(why) => Owner::Another(why.to_string()),
        };
        if let Some(esp) = chosen {
            let owner = owner_on(&esp);
            found.add_directory(esp, owner);
        }
        for BootEntry { number, option } in entries {
            let named = option.path.partuuid().map(|p| EspLocation::by_partuuid(devices, p));
            let Some(esp) = named.transpose()?.flatten() else {
                let why = "the EFI system partition that it names is not here".to_owned();
                found.kept_entries.push((number, why));
                continue;
            };
            match owner_on(&esp) {
                Owner::Another(why) => {
                    found.kept_entries.push((number, why.clone()));
                    found.add_directory(esp, Owner::Another(why));
                }
                owner => {
                    found.entries.push(number);
                    found.add_directory(esp, owner);
                }
            }
        }
        Ok(found)
    }

    fn add_directory(&mut self, esp: EspLocation, owner: Owner) {
        let mut known = self.esps.iter().chain(self.kept_directories.iter().map(|(esp, _)| esp));
        if known.any(|known| *known == esp) {
            return;
        }
        match owner {
            Owner::Another(why) => self.kept_directories.push((esp, why)),
            Owner::This | Owner::Nobody => self.esps.push(esp),
        }
    }

    /// Whether the directory is removed from where it is.
    pub fn has_directory(&self) -> bool {
        !self.esps.is_empty() || self.kept_directories.is_empty()
    }

    /// The plan's notes on what is left alone.
    pub fn notes(&self) -> Vec<String> {
        let entries = self.kept_entries.iter().map(|(number, why)| lines::kept(*number, why));
        let directories = self.kept_directories.iter().map(|(esp, why)| {
            lines::kept_directory(&self.directory, &esp.device.display().to_string(), why)
        });
        entries.chain(directories).collect()
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// A directory cannot be removed. That can be done again.
    pub fn remove_directories(&self, host: &Host, devices: &Devices, id: Id) -> Result<()> {
        for location in &self.esps {
            let has_directory = location.mount_read_only(host, devices).and_then(|mounted| {
                let looking = "looking for the loader's directory";
                let directories = mounted.esp().directories().map_err(esp_error(looking))?;
                Ok(directories.iter().any(|found| found.eq_ignore_ascii_case(&id.short())))
            });
            match has_directory {
                Ok(true) => {}
                Ok(false) => continue,
                // No loader on an ESP that cannot be read can be started.
                Err(e) => {
                    log::warn!("{e}");
                    continue;
                }
            }
            let mounted = location.mount(host, devices)?;
            let removing =
                format!("removing the loader's directory on {}", location.device.display());
            let directory = Esp::directory_of(&id.short());
            mounted.esp().remove_tree(&directory).map_err(esp_error(&removing))?;
            mounted.close()?;
        }
        Ok(())
    }
}
