//! All boot entries of the machine: those of Lifeboat whose BE was not found, and those of other
//! systems that start a BE.

use std::collections::BTreeSet;

use boot::efi::{BootEntries, BootEntry};

use super::esp_location::{EspLocation, MountedEsp};
use super::firmware::{self, reading};
use super::grub::stub::BootDirectory;
use super::grub::vendor;
use super::trial_record::TrialRecord;
use crate::environment::{BootEnvironment, Id, Trial};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::storage::device::Devices;

/// The boot entries of a machine, and the ESPs that they name.
pub struct AllEntries<'a> {
    host: &'a Host,
    devices: &'a Devices,
    entries: BootEntries,
}

/// A trial that is not confirmed, of a BE that is not running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnconfirmedTrial {
    /// The name of the BE in its entry.
    pub name: String,
    /// The number of its entry.
    pub entry: u16,
    /// The state of the trial.
    pub trial: Trial,
}

impl<'a> AllEntries<'a> {
    /// The entries of a machine; `None` if it has no firmware variables.
    pub fn of(host: &'a Host, devices: &'a Devices) -> Option<Self> {
        let entries = firmware::boot_entries(host).ok()?;
        Some(AllEntries { host, devices, entries })
    }

    /// Mounts every ESP that an entry names, so that it need not be mounted for each file that is
    /// read from it. Call this in a private mount namespace.
    ///
    /// # Errors
    /// The variables cannot be read.
    pub fn hold_esps(&self) -> Result<Vec<MountedEsp>> {
        let all = self.entries.entries().map_err(reading)?;
        let named: BTreeSet<_> = all.iter().filter_map(|e| e.option.path.partuuid()).collect();
        let read = |partuuid| EspLocation::try_read(self.host, self.devices, partuuid);
        Ok(named.into_iter().filter_map(read).collect())
    }

    /// Sets the entry and the next boot of each BE that an entry of another system starts.
    ///
    /// # Errors
    /// The variables cannot be read.
    pub fn follow_foreign(&self, environments: &mut [BootEnvironment]) -> Result<()> {
        let next = firmware::next(&self.entries)?;
        let next_number = next.as_ref().map(|entry| entry.number);
        for entry in self.foreign()? {
            let Some(directory) = self.boot_directory(&entry) else { continue };
            let is_started = |e: &&mut BootEnvironment| vendor::is_of(self.devices, e, &directory);
            if let Some(environment) = environments.iter_mut().find(is_started) {
                environment.boot_entry.get_or_insert(entry.number);
                environment.next_boot |= Some(entry.number) == next_number;
            }
        }
        // It is not known what the next entry starts, but it started the running system.
        if let Some(next) = &next
            && !next.option.is_lifeboat()
            && !environments.iter().any(|e| e.next_boot)
            && self.entries.current().map_err(reading)? == Some(next.number)
            && let Some(running) = environments.iter_mut().find(|e| e.running)
        {
            running.next_boot = true;
        }
        Ok(())
    }

    /// Refuses to erase a BE if the machine would then start the loader of a distribution that leads
    /// to it, and to none of those that are `left`. The entries `gone` are removed too.
    ///
    /// # Errors
    /// [`Refusal::ForeignEntryStartsIt`], and the variables cannot be read.
    pub fn refuse_foreign_first<'e>(
        &self,
        environment: &BootEnvironment,
        left: impl Iterator<Item = &'e BootEnvironment>,
        gone: &[u16],
    ) -> Result<()> {
        let left: Vec<&BootEnvironment> = left.collect();
        let leads_to_it = |entry: &BootEntry| {
            let directory = self.boot_directory(entry).filter(|_| !entry.option.is_lifeboat());
            directory.is_some_and(|directory| {
                let is_of =
                    |found: &BootEnvironment| vendor::is_of(self.devices, found, &directory);
                is_of(environment) && !left.iter().any(|other| is_of(other))
            })
        };
        match firmware::first_without(&self.entries, gone)?.iter().any(leads_to_it) {
            false => Ok(()),
            true => {
                Err(Refusal::ForeignEntryStartsIt { name: environment.name().to_owned() }.into())
            }
        }
    }

    /// The entries that the firmware starts by itself, in this order.
    ///
    /// # Errors
    /// The variables cannot be read.
    pub fn started(&self) -> Result<Vec<u16>> {
        Ok(firmware::in_order(&self.entries)?.into_iter().map(|entry| entry.number).collect())
    }

    /// A warning for each entry of Lifeboat whose BE was not found.
    ///
    /// # Errors
    /// The variables cannot be read.
    pub fn without_root(&self, environments: &[BootEnvironment]) -> Result<Vec<String>> {
        let ids: BTreeSet<String> = environments
            .iter()
            .filter_map(|e| e.descriptor.as_ref())
            .map(|d| d.id.short())
            .collect();
        let mut warnings = Vec::new();
        for entry in self.entries.entries().map_err(reading)? {
            let Some((directory, _)) = firmware::loader_file(&entry.option) else { continue };
            if ids.contains(&directory) {
                continue;
            }
            let failed = match self.trial_in(&entry, &directory)? {
                Some(Trial::Failed) => ", whose trial failed",
                _ => "",
            };
            warnings.push(format!(
                "Boot{number:04X} starts '{}'{failed}, but its root is not on any disk here: if \
                that BE is gone for good, `be boot-entries remove {number:04X}` removes the entry",
                firmware::shown_name(&entry.option, &directory),
                number = entry.number
            ));
        }
        Ok(warnings)
    }

    /// The trials of all BEs except the running one, from their entries and records. Reads no root
    /// file system.
    ///
    /// # Errors
    /// The variables cannot be read.
    pub fn unconfirmed(&self, running: Option<Id>) -> Result<Vec<UnconfirmedTrial>> {
        let running = running.map(|id| id.short());
        let mut found = Vec::new();
        for entry in self.entries.entries().map_err(reading)? {
            let Some((directory, _)) = firmware::loader_file(&entry.option) else { continue };
            if Some(&directory) == running.as_ref() {
                continue;
            }
            if let Some(trial) = self.trial_in(&entry, &directory)? {
                let name = firmware::shown_name(&entry.option, &directory).to_owned();
                found.push(UnconfirmedTrial { name, entry: entry.number, trial });
            }
        }
        Ok(found)
    }

    fn foreign(&self) -> Result<Vec<BootEntry>> {
        let mut all = self.entries.entries().map_err(reading)?;
        all.retain(|entry| !entry.option.is_lifeboat());
        Ok(all)
    }

    /// Where the loader of a distribution finds its menu; `None` if that is not known.
    fn boot_directory(&self, entry: &BootEntry) -> Option<BootDirectory> {
        let esp = self.esp_of(entry)?;
        vendor::boot_directory_of(esp.esp(), &entry.option.path.file()?)
    }

    fn esp_of(&self, entry: &BootEntry) -> Option<MountedEsp> {
        EspLocation::try_read(self.host, self.devices, entry.option.path.partuuid()?)
    }

    /// The trial of a BE that is not running; `None` also if its record cannot be read.
    fn trial_in(&self, entry: &BootEntry, directory: &str) -> Result<Option<Trial>> {
        let is_next = self.entries.next().map_err(reading)? == Some(entry.number);
        let record =
            self.esp_of(entry).and_then(|esp| TrialRecord::load(esp.esp(), directory).ok());
        Ok(record.and_then(|record| record.trial_state(false, is_next)))
    }
}
