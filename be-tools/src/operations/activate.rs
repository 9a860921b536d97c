//! The switch to another BE, and the checks before it (docs/design.md, "Before a switch").

mod checks;
mod repair;

use std::fmt;
use std::path::Path;

use crate::discover;
use crate::environment::Inventory;
use crate::environment::{BootEnvironment, Descriptor, Id, Name, Trial, sentences};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::loader::{self, InstallTarget, Loader, LoaderStep, Stage};
use crate::operations::sync::{self, SyncChoice};
use crate::operations::write_descriptor::{WriteDescriptor, hold};
use crate::plan::{Plan, Report};
use crate::session::lock::{InProgress, Lock};
use crate::step::{self, Step};
use crate::storage::namespace;
use checks::{complete_descriptor, faults, watchdog_runs};

/// How long an activation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// For the next boot, and permanently once the BE has confirmed itself.
    Trial,
    /// For every boot from now on.
    Permanent,
}

/// What else is chosen with a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SwitchOptions {
    /// Whether to switch although a check fails.
    pub force: bool,
    /// Whether it takes files over from the running BE when it starts.
    pub sync: SyncChoice,
}

/// A switch that has passed its checks.
struct Switch<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    descriptor: &'a Descriptor,
    loader: Box<dyn Loader + 'a>,
    activation: Activation,
    /// The reasons to install the loader again. Empty if it does not have to be.
    loader_problems: Vec<loader::LoaderProblem>,
    /// The loader's notes for the plan.
    notes: Vec<String>,
    /// The BE from which it takes files over when it starts.
    sync: Option<&'a BootEnvironment>,
}

/// A step of a switch.
enum SwitchStep<'s, 'a> {
    /// The loader's files and entry are written again.
    Install(&'s Switch<'a>),
    /// A step of the loader.
    Loader(LoaderStep<'s>),
    /// Notes from which BE this one takes files over when it starts, or that it does not.
    Sync { switch: &'s Switch<'a>, from: Option<&'a BootEnvironment> },
    /// Calls off the trial of another BE that would have been next, so that it is not reported as
    /// interrupted.
    CallOff { name: &'a str, loader: Box<dyn Loader + 'a> },
}

impl fmt::Display for SwitchStep<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwitchStep::Install(switch) => f.write_str(&switch.loader.line(Stage::InstallAgain)),
            SwitchStep::Loader(step) => step.fmt(f),
            SwitchStep::Sync { from, .. } => {
                f.write_str(&sync_line(from.map(BootEnvironment::name)))
            }
            SwitchStep::CallOff { name, .. } => f.write_str(&call_off(name)),
        }
    }
}

impl Step<()> for SwitchStep<'_, '_> {
    fn run(&self, (): &mut (), report: &mut dyn Report) -> Result<()> {
        match self {
            SwitchStep::Install(switch) => switch.install_loader(report),
            SwitchStep::Loader(step) => step.run(),
            SwitchStep::Sync { switch, from } => switch.note_sync(*from),
            SwitchStep::CallOff { loader, .. } => loader.call_off(),
        }
    }

    fn completes_previous(&self) -> bool {
        matches!(self, SwitchStep::CallOff { .. })
    }
}

/// Makes a BE the one that boots next. Returns its name and the activation that was made: the
/// running BE does not need a trial. `None` if the report stopped after the plan.
///
/// # Errors
/// A [`Refusal`] if a check fails, before anything is written.
pub fn activate(
    host: &Host,
    reference: &str,
    activation: Activation,
    options: SwitchOptions,
    report: &mut dyn Report,
) -> Result<Option<(String, Activation)>> {
    // Locked before the disks are read, so that no other operation changes what was checked.
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    lock.note(InProgress::on("activate", environment));
    let switch = Switch::check(host, &inventory, environment, activation, options)?;
    let steps = switch.steps()?;
    let is_noted = steps.iter().any(|step| matches!(step, SwitchStep::Sync { .. }));
    let noted_on = is_noted.then_some(&environment.root.device);
    let holds = hold(host, &inventory, noted_on)?;
    if !lock.confirm(report, &switch.plan(&steps, options.force))? {
        return Ok(None);
    }
    holds.refuse_changed()?;
    namespace::enter_private_namespace()?;
    step::run_all(&steps, &mut (), report)?;
    Ok(Some((environment.name().to_owned(), switch.activation)))
}

/// How a new BE would be tried that has a loader and a boot entry by then.
#[derive(Debug, Default)]
pub(super) struct Preview {
    pub(super) steps: Vec<String>,
    pub(super) notes: Vec<String>,
}

/// Works out how a new BE of this name would be tried.
///
/// # Errors
/// A [`Refusal`] if the machine would not accept the loader, or has nothing to fall back to.
pub(super) fn preview(host: &Host, name: &Name, source: Option<&str>) -> Result<Preview> {
    let inventory = discover::discover(host)?;
    let descriptor = Descriptor::new(name.clone(), None);
    let mut environment = BootEnvironment::empty(Path::new("/"));
    environment.reference = name.to_string();
    environment.descriptor = Some(descriptor.clone());
    let loader = loader::for_environment(host, &inventory, &environment)?;
    let mut notes = loader.prove_switch(false)?;
    notes.extend(note_on_watchdog(host));
    let source = inventory.find_or_running(source)?;
    // A running system that is adopted first is a BE by then.
    let taken_over = source.running.then(|| sync_line(Some(source.name())));
    let mut steps: Vec<String> = taken_over.into_iter().collect();
    steps.extend(loader.try_once()?.iter().map(ToString::to_string));
    let on_trial = others_on_trial(&inventory, descriptor.id);
    steps.extend(on_trial.map(|other| call_off(other.name())));
    Ok(Preview { steps, notes })
}

/// The step of a switch that installs the loader of a BE again, where its packages have changed it.
pub(super) fn loader_again(host: &Host, descriptor: &Descriptor) -> Result<String> {
    let environment = BootEnvironment {
        descriptor: Some(descriptor.clone()),
        ..BootEnvironment::empty(Path::new("/"))
    };
    let inventory = Inventory::default();
    Ok(loader::for_environment(host, &inventory, &environment)?.line(Stage::InstallAgain))
}

/// That nothing resets the machine before a system runs.
fn note_on_watchdog(host: &Host) -> Option<String> {
    (!watchdog_runs(host)).then(|| {
        "this machine has no active watchdog: if the kernel hangs before the initramfs runs, the \
        machine has to be reset by hand"
            .into()
    })
}

/// The step that notes from which BE something is taken over.
fn sync_line(from: Option<&str>) -> String {
    match from {
        Some(from) => format!(
            "note that it takes accounts, mail and logs over from '{from}' when it starts \
            (/etc/lifeboat/sync.list), and leave a mark in '{from}' by which it is known"
        ),
        None => "note that it takes nothing over when it starts".into(),
    }
}

fn call_off(name: &str) -> String {
    format!("call off the trial of '{name}'")
}

impl<'a> Switch<'a> {
    fn check(
        host: &'a Host,
        inventory: &'a Inventory,
        environment: &'a BootEnvironment,
        activation: Activation,
        options: SwitchOptions,
    ) -> Result<Self> {
        let force = options.force;
        let descriptor = complete_descriptor(environment)?;
        let sync = sync::source_of(inventory, environment, descriptor, options.sync)?;
        if let Some(from) = sync.filter(|_| options.sync == SyncChoice::Always) {
            sync::refuse_unknown(host, inventory, environment, from)?;
        }
        inventory.refuse_twin(environment)?;
        let loader = loader::for_environment(host, inventory, environment)?;
        let notes = loader.prove_switch(force)?;
        let loader_problems = loader.problems()?;
        let problems = faults(environment, descriptor, &loader_problems);
        if !force && !problems.is_empty() {
            let (name, problems) = (environment.name().into(), sentences(&problems));
            return Err(Refusal::WouldNotBoot { name, problems }.into());
        }
        let loader_problems = repair::corrected(&*loader, environment, loader_problems)?;
        // The running BE has already booted, so it does not need a trial.
        let activation = if environment.running { Activation::Permanent } else { activation };
        Ok(Switch {
            host,
            inventory,
            environment,
            descriptor,
            loader,
            activation,
            loader_problems,
            notes,
            sync,
        })
    }

    fn steps(&self) -> Result<Vec<SwitchStep<'_, 'a>>> {
        let mut steps = Vec::new();
        if !self.loader_problems.is_empty() {
            steps.push(SwitchStep::Install(self));
        }
        if self.sync.is_some() || self.descriptor.sync.is_some() {
            steps.push(SwitchStep::Sync { switch: self, from: self.sync });
        }
        let switch = match self.activation {
            Activation::Trial => self.loader.try_once()?,
            Activation::Permanent => self.loader.make_default()?,
        };
        steps.extend(switch.into_iter().map(SwitchStep::Loader));
        for other in others_on_trial(self.inventory, self.descriptor.id) {
            let loader = loader::for_environment(self.host, self.inventory, other)?;
            steps.push(SwitchStep::CallOff { name: other.name(), loader });
        }
        Ok(steps)
    }

    fn plan(&self, steps: &[SwitchStep], force: bool) -> Plan {
        let name = self.environment.name();
        let title = match self.activation {
            Activation::Trial => format!("Try boot environment '{name}' at the next boot"),
            Activation::Permanent => format!("Boot '{name}' from now on"),
        };
        let mut plan = Plan { title, steps: step::lines(steps), ..Plan::default() };
        plan.notes.extend_from_slice(&self.notes);
        for problem in &self.loader_problems {
            plan.notes.push(format!("{problem}: the loader is installed again"));
        }
        if force {
            let problems = faults(self.environment, self.descriptor, &self.loader_problems);
            plan.notes.extend(problems.into_iter().map(|p| format!("--force: {p}")));
        }
        if self.activation == Activation::Trial {
            plan.notes.extend(note_on_watchdog(self.host));
        }
        plan
    }

    fn note_sync(&self, from: Option<&BootEnvironment>) -> Result<()> {
        let mut descriptor = self.descriptor.clone();
        let from = from.and_then(|from| from.descriptor.as_ref());
        descriptor.sync = from.map(|from| sync::note(self.host, from.id)).transpose()?;
        WriteDescriptor(self.environment).run(self.host, self.inventory, &descriptor)
    }

    fn install_loader(&self, report: &mut dyn Report) -> Result<()> {
        let install = |root: &Path| {
            self.loader.install(&InstallTarget::new(self.descriptor, self.environment, root))
        };
        if self.environment.running {
            return install(Path::new("/"));
        }
        let mounted = repair::mount(self.host, self.inventory, self.environment)?;
        mounted.warnings().iter().for_each(|warning| report.warn(warning));
        install(mounted.root())
    }
}

/// The BEs, except the one with this id, that would be tried at the next boot.
fn others_on_trial(inventory: &Inventory, id: Id) -> impl Iterator<Item = &BootEnvironment> {
    inventory.environments.iter().filter(move |other| {
        other.trial == Some(Trial::Pending) && other.descriptor.as_ref().is_some_and(|d| d.id != id)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::{Firmware, environment};

    fn complete() -> BootEnvironment {
        environment("second", "aaaa-02").complete()
    }

    #[test]
    fn the_plan_names_the_trial_that_it_calls_off() {
        let (firmware, environment) = (Firmware::new(), complete());
        let (mut waiting, mut failed) = (complete(), complete());
        waiting.descriptor.as_mut().unwrap().name = "third".parse().unwrap();
        (waiting.trial, failed.trial) = (Some(Trial::Pending), Some(Trial::Failed));
        let itself = BootEnvironment { trial: Some(Trial::Pending), ..environment.clone() };
        let inventory =
            Inventory { environments: vec![itself, waiting, failed], ..Inventory::default() };
        let host = firmware.host();
        let switch = Switch {
            host: &host,
            inventory: &inventory,
            environment: &environment,
            descriptor: environment.descriptor.as_ref().unwrap(),
            loader: loader::for_environment(&host, &inventory, &environment).unwrap(),
            activation: Activation::Permanent,
            loader_problems: Vec::new(),
            notes: Vec::new(),
            sync: None,
        };
        let steps = switch.plan(&switch.steps().unwrap(), false).steps;
        assert_eq!(steps.len(), 3, "{steps:?}");
        assert_eq!(steps[2], "call off the trial of 'third'");
    }
}
