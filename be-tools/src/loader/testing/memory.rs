//! A loader in memory, and the machine that it starts: a boot manager with a menu, a default entry
//! and a one-shot entry, without firmware variables.

use std::cell::RefCell;

use crate::environment::{BootEnvironment, Id, Name, State, Trial};
use crate::error::{Error, Refusal, Result};
use crate::loader::contract::{BootState, InstallTarget, Loader, LoaderStep, Stage};
use crate::loader::problem::{LoaderFile, LoaderProblem};
use crate::loader::promises::{Machine, Started, keep_every_promise};
use crate::loader::testing::environment;
use crate::loader::trial_record::{MAX_ATTEMPTS, TrialRecord};
use crate::localize::{LoaderSettings, Localization, Localized, OwnParameters};
use crate::root_dir::RootDir;
use crate::sandbox::programs::Programs;

/// What a line of the menu starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Foreign,
    Environment(Id),
}

/// A line of the menu.
struct Entry {
    number: u16,
    owner: Owner,
    shown: String,
    listed: bool,
}

/// The files of a BE's loader.
struct Files {
    id: Id,
    intact: bool,
    record: TrialRecord,
}

#[derive(Default)]
struct BootManager {
    menu: Vec<Entry>,
    files: Vec<Files>,
    default: Option<Owner>,
    one_shot: Option<Id>,
    /// The line that started this boot.
    current: Option<Owner>,
    running: Option<Owner>,
    made: u16,
}

impl BootManager {
    fn entry(&self, id: Id) -> Option<&Entry> {
        self.menu.iter().find(|entry| entry.owner == Owner::Environment(id))
    }

    fn entry_of(&mut self, id: Id, name: &str) -> Result<&mut Entry> {
        let found = self.menu.iter_mut().find(|entry| entry.owner == Owner::Environment(id));
        found.ok_or_else(|| Error::Failed(format!("'{name}' has no line in the menu")))
    }

    fn files(&mut self, id: Id) -> Option<&mut Files> {
        self.files.iter_mut().find(|files| files.id == id)
    }

    /// The owner of the line that is started if there is no one-shot entry.
    fn by_itself(&self) -> Option<Owner> {
        let listed = || self.menu.iter().filter(|entry| entry.listed).map(|entry| entry.owner);
        listed().find(|owner| Some(*owner) == self.default).or_else(|| listed().next())
    }

    fn next(&self) -> Option<Owner> {
        self.one_shot.map(Owner::Environment).or_else(|| self.by_itself())
    }

    fn others(&self, id: Id, gone: &[u16]) -> usize {
        let is_other = |entry: &&Entry| {
            entry.listed && entry.owner != Owner::Environment(id) && !gone.contains(&entry.number)
        };
        self.menu.iter().filter(is_other).count()
    }

    fn trial_state(&self, id: Id) -> Option<Trial> {
        let files = self.files.iter().find(|files| files.id == id)?;
        let running = self.running == Some(Owner::Environment(id));
        files.record.trial_state(running, self.one_shot == Some(id))
    }
}

struct MemoryLoader<'a> {
    manager: &'a RefCell<BootManager>,
    target: &'a BootEnvironment,
    id: Id,
}

impl MemoryLoader<'_> {
    fn write_record(&self, record: TrialRecord) -> Result<()> {
        let mut manager = self.manager.borrow_mut();
        let files = manager.files(self.id).ok_or_else(|| Error::Failed("no files".into()))?;
        files.record = record;
        Ok(())
    }

    fn choose(&self, owner: Owner) {
        self.manager.borrow_mut().default = Some(owner);
    }

    fn refuse_without_others(
        &self,
        gone: &[u16],
        refusal: impl Fn(String) -> Refusal,
    ) -> Result<()> {
        match self.manager.borrow().others(self.id, gone) {
            0 => Err(refusal(self.target.name().to_owned()).into()),
            _ => Ok(()),
        }
    }
}

impl Loader for MemoryLoader<'_> {
    fn prove(&self, _: &BootEnvironment) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    fn settings(&self) -> &dyn LoaderSettings {
        &NoSettings
    }

    fn line(&self, _: Stage) -> String {
        "write its files, and its line in the menu".into()
    }

    fn install(&self, target: &InstallTarget) -> Result<()> {
        let mut manager = self.manager.borrow_mut();
        match manager.files(self.id) {
            Some(files) => files.intact = true,
            None => {
                manager.files.push(Files {
                    id: self.id,
                    intact: true,
                    record: TrialRecord::default(),
                });
            }
        }
        let shown = target.descriptor.name.to_string();
        if manager.entry(self.id).is_none() {
            manager.made += 1;
            let (number, owner) = (manager.made, Owner::Environment(self.id));
            manager.menu.push(Entry { number, owner, shown, listed: false });
        }
        Ok(())
    }

    fn set_listed(&self, listed: bool) -> Result<()> {
        let is_next = self.manager.borrow().one_shot == Some(self.id);
        self.manager.borrow_mut().entry_of(self.id, self.target.name())?.listed = listed;
        if !listed && is_next {
            self.manager.borrow_mut().one_shot = None;
            self.call_off()?;
        }
        Ok(())
    }

    fn prove_switch(&self, force: bool) -> Result<Vec<String>> {
        if !force {
            self.refuse_without_others(&[], |name| Refusal::NoFallback { name })?;
        }
        Ok(Vec::new())
    }

    fn try_once(&self) -> Result<Vec<LoaderStep<'_>>> {
        let (by_itself, running) = {
            let manager = self.manager.borrow();
            (manager.by_itself(), manager.running)
        };
        let mut steps = Vec::new();
        if let (Some(running), true) = (running, by_itself == Some(Owner::Environment(self.id))) {
            steps.push(LoaderStep::new("make what runs the default", move || {
                self.choose(running);
                Ok(())
            }));
        }
        steps.push(LoaderStep::new("write its record", || {
            self.write_record(TrialRecord::begin(None))
        }));
        steps.push(LoaderStep::new("start it once", || {
            self.set_listed(true)?;
            self.manager.borrow_mut().one_shot = Some(self.id);
            Ok(())
        }));
        Ok(steps)
    }

    fn make_default(&self) -> Result<Vec<LoaderStep<'_>>> {
        let clear =
            LoaderStep::new("clear its record", || self.write_record(TrialRecord::default()));
        let choose = LoaderStep::new("make it the default", || {
            self.set_listed(true)?;
            self.choose(Owner::Environment(self.id));
            self.manager.borrow_mut().one_shot = None;
            Ok(())
        });
        Ok(vec![clear, choose])
    }

    fn call_off(&self) -> Result<()> {
        self.write_record(TrialRecord::default())
    }

    fn running_trial(&self) -> Result<Option<Trial>> {
        let manager = self.manager.borrow();
        let by_own_line = manager.current == Some(Owner::Environment(self.id));
        Ok(manager.trial_state(self.id).filter(|s| by_own_line || *s != Trial::Running))
    }

    fn confirm(&self) -> Result<Vec<LoaderStep<'_>>> {
        let record = match self.manager.borrow_mut().files(self.id) {
            Some(files) => files.record,
            None => return Ok(Vec::new()),
        };
        if self.running_trial()? != Some(Trial::Running) {
            let cleared = TrialRecord { attempts: 0, ..record };
            let clear = move || self.write_record(cleared);
            return Ok(vec![LoaderStep::new("clear the count of its attempts", clear)]);
        }
        if self.target.descriptor.as_ref().is_none_or(|d| d.state == State::Incomplete) {
            return Err(Error::Failed(format!("'{}' is incomplete", self.target.name())));
        }
        let choose = LoaderStep::new("make it the default", || {
            self.choose(Owner::Environment(self.id));
            Ok(())
        });
        let clear =
            LoaderStep::new("clear its record", || self.write_record(TrialRecord::default()));
        Ok(vec![choose, clear])
    }

    fn is_default(&self) -> Result<bool> {
        Ok(self.manager.borrow().by_itself() == Some(Owner::Environment(self.id)))
    }

    fn state(&self) -> Result<BootState> {
        let mut manager = self.manager.borrow_mut();
        let Some(number) = manager.entry(self.id).map(|entry| entry.number) else {
            return Ok(BootState::default());
        };
        let (next, trial) = (manager.next(), manager.trial_state(self.id));
        let file = || LoaderFile::Image("memory".into());
        let problems = match manager.files(self.id) {
            None => vec![LoaderProblem::Missing(file())],
            Some(files) if !files.intact => vec![LoaderProblem::Damaged(file())],
            Some(_) => Vec::new(),
        };
        let next = next == Some(Owner::Environment(self.id));
        Ok(BootState { entry: Some(number), next, trial, problems })
    }

    fn rename(&self, name: &Name) -> Result<()> {
        let mut manager = self.manager.borrow_mut();
        if let Ok(entry) = manager.entry_of(self.id, self.target.name()) {
            entry.shown = name.to_string();
        }
        Ok(())
    }

    fn prove_another_boots(&self, gone: &[u16]) -> Result<()> {
        self.refuse_without_others(gone, |name| Refusal::OnlyBootable { name })
    }

    fn leads_here(&self) -> Result<bool> {
        let mut manager = self.manager.borrow_mut();
        Ok(manager.entry(self.id).is_some() && manager.files(self.id).is_some_and(|f| f.intact))
    }

    fn removed_entries(&self) -> Result<Vec<u16>> {
        Ok(self.manager.borrow().entry(self.id).map(|entry| entry.number).into_iter().collect())
    }

    fn refuse_kept_first(&self, gone: &[u16]) -> Result<()> {
        let manager = self.manager.borrow();
        let own = Some(Owner::Environment(self.id));
        let is_first = manager.next() == own || manager.by_itself() == own;
        match manager.entry(self.id).map(|entry| entry.number) {
            Some(entry) if is_first && !gone.contains(&entry) => {
                let name = self.target.name().to_owned();
                Err(Refusal::KeptStartsFirst { name, entry }.into())
            }
            _ => Ok(()),
        }
    }

    fn remove(&self) -> Result<Vec<LoaderStep<'_>>> {
        let forget = LoaderStep::new("take it out of the menu", || {
            let mut manager = self.manager.borrow_mut();
            let own = Owner::Environment(self.id);
            manager.one_shot = manager.one_shot.filter(|id| *id != self.id);
            manager.default = manager.default.filter(|owner| *owner != own);
            manager.menu.retain(|entry| entry.owner != own);
            Ok(())
        });
        let remove = LoaderStep::new("remove its files", || {
            self.manager.borrow_mut().files.retain(|files| files.id != self.id);
            Ok(())
        });
        Ok(vec![forget, remove])
    }
}

/// The settings of a loader that keeps nothing in a BE.
struct NoSettings;

impl LoaderSettings for NoSettings {
    fn adopted_files(&self, _: &RootDir) -> &'static [&'static str] {
        &[]
    }
    fn adopted_menu(&self, _: &RootDir) -> Option<&'static str> {
        None
    }
    fn own_files(&self) -> &'static [&'static str] {
        &[]
    }
    fn adopt_menu(&self, _: &RootDir) -> Result<()> {
        Ok(())
    }
    fn adopt(&self, _: &RootDir) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn passes_resume(&self, _: &RootDir) -> bool {
        false
    }
    fn missing_in(&self, _: &RootDir) -> Option<String> {
        None
    }
    fn localize(&self, _: &RootDir, _: &Localization, _: &OwnParameters) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    fn write_menu(
        &self,
        _: &RootDir,
        _: &Localization,
        _: &OwnParameters,
        _: &dyn Programs,
    ) -> Result<Localized> {
        Ok(Localized::default())
    }
}

/// A machine with such a loader.
struct MemoryMachine {
    manager: RefCell<BootManager>,
    environments: Vec<BootEnvironment>,
}

impl MemoryMachine {
    fn new() -> Self {
        let foreign =
            Entry { number: 0, owner: Owner::Foreign, shown: "Debian".into(), listed: true };
        let manager = BootManager {
            menu: vec![foreign],
            current: Some(Owner::Foreign),
            running: Some(Owner::Foreign),
            ..BootManager::default()
        };
        MemoryMachine { manager: RefCell::new(manager), environments: Vec::new() }
    }

    fn environment(&self, name: &str) -> &BootEnvironment {
        self.environments.iter().find(|e| e.name() == name).unwrap()
    }

    fn id(&self, name: &str) -> Id {
        self.environment(name).descriptor.as_ref().unwrap().id
    }
}

impl Machine for MemoryMachine {
    fn add(&mut self, name: &str) {
        self.environments.push(environment(name, "aaaa").complete());
    }

    fn loader(&self, name: &str) -> Box<dyn Loader + '_> {
        let target = self.environment(name);
        Box::new(MemoryLoader { manager: &self.manager, target, id: self.id(name) })
    }

    fn install(&self, name: &str) {
        let environment = self.environment(name);
        let descriptor = environment.descriptor.as_ref().unwrap();
        let target = InstallTarget::new(descriptor, environment, "/".as_ref());
        self.loader(name).install(&target).unwrap();
    }

    fn set_state(&mut self, name: &str, state: State) {
        let found = self.environments.iter_mut().find(|e| e.name() == name).unwrap();
        found.descriptor.as_mut().unwrap().state = state;
    }

    fn start(&mut self) -> Started {
        let manager = &mut *self.manager.borrow_mut();
        let Some(owner) = manager.next() else { return Started::Nothing };
        manager.one_shot = None;
        (manager.current, manager.running) = (Some(owner), Some(owner));
        let Owner::Environment(id) = owner else { return Started::Foreign };
        let record = &mut manager.files(id).expect("a line starts a BE without files").record;
        if record.attempts == MAX_ATTEMPTS {
            manager.running = None;
            return Started::Rescue;
        }
        record.attempts += 1;
        record.tried |= record.trial;
        let is_it = |e: &&BootEnvironment| e.descriptor.as_ref().is_some_and(|d| d.id == id);
        Started::Environment(self.environments.iter().find(is_it).unwrap().name().to_owned())
    }

    fn kexec(&mut self, name: &str) {
        let id = self.id(name);
        self.manager.borrow_mut().running = Some(Owner::Environment(id));
    }

    fn lose_foreign(&mut self) {
        self.manager.borrow_mut().menu.retain(|entry| entry.owner != Owner::Foreign);
    }

    fn damage(&mut self, name: &str) {
        let id = self.id(name);
        self.manager.borrow_mut().files(id).unwrap().intact = false;
    }

    fn shown(&self, name: &str) -> Option<String> {
        let manager = self.manager.borrow();
        manager.entry(self.id(name)).map(|entry| entry.shown.clone())
    }

    fn has_files(&self, name: &str) -> bool {
        let id = self.id(name);
        self.manager.borrow_mut().files(id).is_some()
    }
}

keep_every_promise! { || Box::new(MemoryMachine::new()) }
