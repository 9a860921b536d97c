//! The boot entry of one BE, and its trial record on the ESP that the entry names. Every loader
//! that the firmware starts has both.

use boot::efi::{BootEntries, BootEntry, LoadOption, Position, SecureBoot};
use boot::esp::Esp;

use super::removal::{Owner, Removal};
use super::{boot_entries, first, first_without, next, reading, writing};
use super::{
    description, entries_of, fallback, lines, loader_file, other_entries, point_entry, starts,
};
use crate::environment::{BootEnvironment, Descriptor, Id, Inventory, Name, State, Trial};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::contract::{BootState, LoaderStep};
use crate::loader::esp_location::{EspLocation, MountedEsp, running};
use crate::loader::problem::LoaderProblem;
use crate::loader::trial_record::TrialRecord;
use crate::storage::device::Devices;

/// The boot entry of a BE, which may not exist yet.
#[derive(Debug)]
pub struct EnvironmentEntry<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    environment: BootEnvironment,
}

impl<'a> EnvironmentEntry<'a> {
    /// The boot entry of `environment`.
    pub fn new(host: &'a Host, inventory: &'a Inventory, environment: &BootEnvironment) -> Self {
        EnvironmentEntry { host, inventory, environment: environment.clone() }
    }

    fn devices(&self) -> &'a Devices {
        &self.inventory.devices
    }

    fn descriptor(&self) -> Result<&Descriptor> {
        self.environment.descriptor.as_ref().ok_or_else(|| {
            let name = self.environment.reference.clone();
            let way_out = format!("start it with `be boot {name}` and run `be adopt` there");
            Refusal::Unmanaged { name, way_out }.into()
        })
    }

    fn id(&self) -> Result<Id> {
        self.descriptor().map(|descriptor| descriptor.id)
    }

    fn entries(&self) -> Result<BootEntries> {
        boot_entries(self.host)
    }

    /// The entry; `None` also if the machine has no firmware variables.
    fn find(&self) -> Result<Option<BootEntry>> {
        let Ok(entries) = self.entries() else { return Ok(None) };
        Ok(entries_of(&entries, self.id()?)?.into_iter().next())
    }

    fn entry(&self) -> Result<BootEntry> {
        self.find()?.ok_or_else(|| {
            Error::Failed(format!(
                "'{}' has no boot entry: `be activate` makes it again",
                self.environment.name()
            ))
        })
    }

    /// The ESP of the loader's files: the one that the entry names if it still exists, else the one
    /// that a new BE would use.
    ///
    /// # Errors
    /// [`Refusal::NoEsp`], [`Refusal::AmbiguousEsp`]
    pub fn location(&self) -> Result<EspLocation> {
        if let Some(named) = self.named_esp()? {
            return Ok(named);
        }
        let chosen = self.choose_esp()?;
        chosen.refuse_ambiguous(self.devices()).map(|()| chosen)
    }

    /// The ESP that a new BE would use.
    fn choose_esp(&self) -> Result<EspLocation> {
        let running = self.inventory.running();
        EspLocation::choose(self.host, self.devices(), &self.environment, running)
    }

    /// The ESP that an entry of the BE names, if it still exists.
    fn named_esp(&self) -> Result<Option<EspLocation>> {
        let Some(descriptor) = &self.environment.descriptor else { return Ok(None) };
        for entry in entries_of(&self.entries()?, descriptor.id)? {
            if let Some(partuuid) = entry.option.path.partuuid()
                && let Some(found) = EspLocation::by_partuuid(self.devices(), partuuid)?
            {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The ESP with the trial record of the BE, which its entry names. Of several that have its
    /// PARTUUID, the running BE knows its own.
    fn esp_of(&self, entry: &BootEntry) -> Result<Option<EspLocation>> {
        let Some(partuuid) = entry.option.path.partuuid() else { return Ok(None) };
        match self.environment.running {
            true => running::esp(self.host, self.devices(), partuuid, self.id()?),
            false => EspLocation::by_partuuid(self.devices(), partuuid),
        }
    }

    /// Checks that the machine has boot entries, and that it starts unsigned programs.
    ///
    /// # Errors
    /// [`Refusal::NoFirmwareVariables`], [`Refusal::SecureBoot`].
    pub fn prove_unsigned(&self) -> Result<()> {
        match self.entries()?.secure_boot().map_err(reading)? {
            SecureBoot::Enabled => Err(Refusal::SecureBoot.into()),
            _ => Ok(()),
        }
    }

    /// See [`Loader::prove_switch`](crate::loader::Loader::prove_switch).
    pub fn prove_switch(&self, force: bool) -> Result<Vec<String>> {
        self.prove_unsigned()?;
        self.named_esp()?;
        let (entries, descriptor) = (self.entries()?, self.descriptor()?);
        if !force && other_entries(&entries, descriptor.id)?.is_empty() {
            return Err(Refusal::NoFallback { name: descriptor.name.to_string() }.into());
        }
        let network = first(&entries)?.filter(|first| first.option.path.is_network());
        Ok(network.map(|first| lines::network_is_first(&first, descriptor)).into_iter().collect())
    }

    /// See [`Loader::prove_another_boots`](crate::loader::Loader::prove_another_boots).
    pub fn prove_another_boots(&self, gone: &[u16]) -> Result<()> {
        let (Some(descriptor), Ok(entries)) = (&self.environment.descriptor, self.entries()) else {
            return Ok(());
        };
        let others = other_entries(&entries, descriptor.id)?;
        if entries_of(&entries, descriptor.id)?.is_empty()
            || others.iter().any(|number| !gone.contains(number))
        {
            return Ok(());
        }
        Err(Refusal::OnlyBootable { name: descriptor.name.to_string() }.into())
    }

    /// Points the entry at `file`, which exists on the ESP at `location`.
    ///
    /// # Errors
    /// The variables cannot be written. The old entry is unchanged.
    pub fn point_to(&self, location: &EspLocation, file: &str) -> Result<()> {
        let descriptor = self.descriptor()?;
        let description = description(descriptor.name.as_str(), &self.environment.os);
        let option = LoadOption::new(description, location.device_path(file));
        point_entry(&self.entries()?, descriptor.id, option).map(drop)
    }

    /// See [`Loader::set_listed`](crate::loader::Loader::set_listed).
    pub fn set_listed(&self, listed: bool) -> Result<()> {
        let (entries, entry) = (self.entries()?, self.entry()?);
        // The firmware starts what BootNext names even if that entry is inactive (UEFI 3.1.2).
        if !listed && entries.next().map_err(reading)? == Some(entry.number) {
            entries.set_next(None).map_err(writing)?;
            self.call_off()?;
        }
        entries.set_active(entry.number, listed).map_err(writing)
    }

    /// See [`Loader::try_once`](crate::loader::Loader::try_once).
    pub fn try_once(&self) -> Result<Vec<LoaderStep<'_>>> {
        let entries = self.entries()?;
        let running = self.inventory.running().and_then(|running| running.boot_entry);
        let mut steps = Vec::new();
        if let Some(fallback) = fallback(&entries, self.id()?, running)? {
            let line = format!(
                "put Boot{fallback:04X} first in BootOrder, so that a failed trial does not start \
                '{}' again",
                self.environment.name()
            );
            steps.push(LoaderStep::new(line, move || {
                self.entries()?.place(fallback, Position::First).map_err(writing)
            }));
        }
        steps.push(LoaderStep::new("write its trial record", move || {
            // Another program may have changed the order while the plan was being confirmed.
            if let Some(fallback) = fallback(&self.entries()?, self.id()?, running)? {
                self.entries()?.place(fallback, Position::First).map_err(writing)?;
            }
            let previous = self.entries()?.order().map_err(reading)?.first().copied();
            self.write_record(TrialRecord::begin(previous))
        }));
        steps.push(LoaderStep::new("set BootNext to its boot entry", || {
            self.set_listed(true)?;
            self.entries()?.set_next(Some(self.entry()?.number)).map_err(writing)
        }));
        Ok(steps)
    }

    /// See [`Loader::make_default`](crate::loader::Loader::make_default).
    pub fn make_default(&self) -> Result<Vec<LoaderStep<'_>>> {
        // An old count of attempts must not make its first start end in the rescue image.
        let clear =
            LoaderStep::new("clear its trial record", || self.write_record(TrialRecord::default()));
        let line = "put its boot entry first in BootOrder, and clear BootNext";
        let put_first = LoaderStep::new(line, || {
            let (entries, entry) = (self.entries()?, self.entry()?);
            entries.set_active(entry.number, true).map_err(writing)?;
            entries.place(entry.number, Position::First).map_err(writing)?;
            entries.set_next(None).map_err(writing)
        });
        Ok(vec![clear, put_first])
    }

    /// See [`Loader::call_off`](crate::loader::Loader::call_off).
    pub fn call_off(&self) -> Result<()> {
        self.write_record(TrialRecord::default())
    }

    /// See [`Loader::running_trial`](crate::loader::Loader::running_trial).
    pub fn running_trial(&self) -> Result<Option<Trial>> {
        match self.running_record()? {
            Some((record, entry)) => self.trial_state(&record, &entry),
            None => Ok(None),
        }
    }

    /// See [`Loader::confirm`](crate::loader::Loader::confirm).
    pub fn confirm(&self) -> Result<Vec<LoaderStep<'_>>> {
        let Some((record, entry)) = self.running_record()? else { return Ok(Vec::new()) };
        let clear = |line: &str, record| LoaderStep::new(line, move || self.write_record(record));
        if self.trial_state(&record, &entry)? != Some(Trial::Running) {
            // This boot is not the trial: only the count of attempts is cleared.
            let cleared = TrialRecord { attempts: 0, ..record };
            let step = clear("clear the count of its attempts", cleared);
            return Ok(Some(step).filter(|_| cleared != record).into_iter().collect());
        }
        let descriptor = self.descriptor()?;
        if descriptor.state == State::Incomplete {
            return Err(Error::Failed(format!(
                "'{}' is {}: its trial is not confirmed",
                descriptor.name,
                descriptor.state_text()
            )));
        }
        let number = entry.number;
        let line = "put the running boot environment's entry first in BootOrder";
        let put_first = LoaderStep::new(line, move || self.put_first(number));
        let line = "clear the record of the trial and the count of its attempts";
        Ok(vec![put_first, clear(line, TrialRecord::default())])
    }

    fn put_first(&self, number: u16) -> Result<()> {
        let entries = self.entries()?;
        entries.set_active(number, true).map_err(writing)?;
        entries.place(number, Position::First).map_err(writing)?;
        if entries.order().map_err(reading)?.first() == Some(&number) {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "the firmware did not keep Boot{number:04X} first in BootOrder: set the order in the \
            firmware's setup"
        )))
    }

    /// See [`Loader::is_default`](crate::loader::Loader::is_default).
    pub fn is_default(&self) -> Result<bool> {
        let (Ok(entries), id) = (self.entries(), self.id()?) else { return Ok(false) };
        Ok(first(&entries)?.is_some_and(|first| starts(&first.option, id)))
    }

    /// See [`Loader::state`](crate::loader::Loader::state). `check` finds the problems of the file
    /// that the entry names.
    pub fn state(&self, check: impl Fn(&Esp, &str) -> Vec<LoaderProblem>) -> Result<BootState> {
        let Ok(entries) = self.entries() else { return Ok(BootState::default()) };
        let own = entries_of(&entries, self.id()?)?;
        let next = next(&entries)?.map(|entry| entry.number);
        let is_next = own.iter().any(|entry| Some(entry.number) == next);
        let mut state = BootState { next: is_next, ..BootState::default() };
        let Some(entry) = own.into_iter().next() else { return Ok(state) };
        state.entry = Some(entry.number);
        state.problems = self.ambiguity(&entry);
        let Some(mounted) = self.read_esp(&entry) else {
            if state.problems.is_empty() {
                state.problems.push(LoaderProblem::NoEsp);
            }
            return Ok(state);
        };
        let Some((directory, file)) = loader_file(&entry.option) else {
            state.problems.push(LoaderProblem::NoFileNamed);
            return Ok(state);
        };
        let is_next = entries.next().map_err(reading)? == Some(entry.number);
        let record = TrialRecord::load(mounted.esp(), &directory).ok();
        state.trial = record.and_then(|r| r.trial_state(self.environment.running, is_next));
        state.problems.extend(check(mounted.esp(), &file));
        Ok(state)
    }

    /// The problem of an entry that names several partitions.
    fn ambiguity(&self, entry: &BootEntry) -> Vec<LoaderProblem> {
        let partuuid = entry.option.path.partuuid();
        let found = partuuid.and_then(|p| EspLocation::all_with(self.devices(), p).pop());
        let namesakes = found.map(|esp| esp.namesakes(self.devices())).unwrap_or_default();
        match namesakes.len() {
            0 | 1 => Vec::new(),
            _ => vec![LoaderProblem::AmbiguousEsp(namesakes)],
        }
    }

    /// The ESP with the trial record, mounted for reading; `None`, with a warning in the log, if it
    /// cannot be.
    fn read_esp(&self, entry: &BootEntry) -> Option<MountedEsp> {
        let mount = |esp: EspLocation| esp.mount_read_only(self.host, self.devices());
        let mounted = self.esp_of(entry).and_then(|found| found.map(mount).transpose());
        mounted.unwrap_or_else(|e| {
            log::warn!("{e}");
            None
        })
    }

    /// See [`Loader::rename`](crate::loader::Loader::rename).
    pub fn rename(&self, name: &Name) -> Result<()> {
        let Ok(entries) = self.entries() else { return Ok(()) };
        for entry in entries_of(&entries, self.id()?)? {
            let mut option = entry.option;
            option.description = description(name.as_str(), &self.environment.os);
            entries.replace(entry.number, &option).map_err(writing)?;
        }
        Ok(())
    }

    /// See [`Loader::remove`](crate::loader::Loader::remove). Removes the entries, then the
    /// directory from the ESPs that they name, and from the one that a new BE in its place would
    /// use. Other ESPs may be those of another machine, of which this BE is a copy. `owner` says
    /// whose the files in the directory are.
    pub fn remove(&self, owner: impl Fn(&Esp) -> Owner) -> Result<Vec<LoaderStep<'_>>> {
        let (id, found) = (self.id()?, self.removal(owner)?);
        let remove = |number| {
            let line = lines::remove(number);
            LoaderStep::new(line, move || self.entries()?.remove(number).map_err(writing))
        };
        let mut steps: Vec<_> = found.entries.iter().copied().map(remove).collect();
        if found.has_directory() {
            let line = lines::remove_directory(&id.short());
            steps.push(LoaderStep::new(line, move || {
                found.remove_directories(self.host, self.devices(), id)
            }));
        }
        Ok(steps)
    }

    /// See [`Loader::kept_by_removal`](crate::loader::Loader::kept_by_removal).
    pub fn kept_by_removal(&self, owner: impl Fn(&Esp) -> Owner) -> Result<Vec<String>> {
        Ok(self.removal(owner)?.notes())
    }

    /// See [`Loader::leads_here`](crate::loader::Loader::leads_here).
    pub fn leads_here(&self, owner: impl Fn(&Esp) -> Owner) -> Result<bool> {
        let Some(entry) = self.find()? else { return Ok(false) };
        Ok(self.read_esp(&entry).is_some_and(|mounted| owner(mounted.esp()) == Owner::This))
    }

    /// See [`Loader::removed_entries`](crate::loader::Loader::removed_entries).
    pub fn removed_entries(&self, owner: impl Fn(&Esp) -> Owner) -> Result<Vec<u16>> {
        Ok(self.removal(owner)?.entries)
    }

    /// See [`Loader::refuse_kept_first`](crate::loader::Loader::refuse_kept_first).
    pub fn refuse_kept_first(&self, gone: &[u16]) -> Result<()> {
        let (Some(descriptor), Ok(entries)) = (&self.environment.descriptor, self.entries()) else {
            return Ok(());
        };
        let is_own = |entry: &BootEntry| starts(&entry.option, descriptor.id);
        match first_without(&entries, gone)?.into_iter().find(is_own) {
            None => Ok(()),
            Some(kept) => Err(Refusal::KeptStartsFirst {
                name: descriptor.name.to_string(),
                entry: kept.number,
            }
            .into()),
        }
    }

    fn removal(&self, owner: impl Fn(&Esp) -> Owner) -> Result<Removal> {
        let Ok(entries) = self.entries() else { return Ok(Removal::default()) };
        let id = self.id()?;
        // Of two ESPs with one PARTUUID, one is another disk's.
        let chosen = match self.named_esp()? {
            Some(named) => Some(named),
            None => self.choose_esp().ok(),
        };
        Removal::find(self.host, self.devices(), id, entries_of(&entries, id)?, chosen, owner)
    }

    /// The record of the running BE, and the entry that names its ESP; `None` if the running BE has
    /// no entry.
    fn running_record(&self) -> Result<Option<(TrialRecord, BootEntry)>> {
        let Some(entry) = self.find()? else { return Ok(None) };
        let Some(partuuid) = entry.option.path.partuuid() else { return Ok(None) };
        let location = self.esp_of(&entry)?.ok_or_else(|| {
            Error::Failed(format!(
                "the EFI system partition {partuuid} of Boot{:04X} does not exist (yet)",
                entry.number
            ))
        })?;
        let mounted = location.mount_read_only(self.host, self.devices())?;
        Ok(Some((TrialRecord::load(mounted.esp(), &self.id()?.short())?, entry)))
    }

    /// The state of the trial in this boot. A boot through another entry, or with kexec from the
    /// rescue image, is not the trial.
    fn trial_state(&self, record: &TrialRecord, entry: &BootEntry) -> Result<Option<Trial>> {
        let by_own_entry = self.entries()?.current().map_err(reading)? == Some(entry.number);
        Ok(record.trial_state(true, false).filter(|s| by_own_entry || *s != Trial::Running))
    }

    fn write_record(&self, record: TrialRecord) -> Result<()> {
        let location = self.find()?.map(|entry| self.esp_of(&entry)).transpose()?;
        let location = location.flatten().ok_or_else(|| {
            Error::Failed(format!(
                "the EFI system partition of '{}' does not exist",
                self.environment.name()
            ))
        })?;
        let mounted = location.mount(self.host, self.devices())?;
        record.store(mounted.esp(), &self.id()?.short())?;
        mounted.close()
    }
}

#[cfg(test)]
mod tests;
