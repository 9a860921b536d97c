//! The trait that every loader implements, and the types of its methods. `promises.rs` tests every
//! implementation.

use std::fmt;
use std::path::Path;

use super::problem::LoaderProblem;
use crate::environment::{BootEnvironment, Descriptor, Name, Trial};
use crate::error::Result;
use crate::localize::LoaderSettings;
use crate::plan::Report;
use crate::step::Step;

/// A mounted BE for which a loader is installed.
#[derive(Clone, Copy, Debug)]
pub struct InstallTarget<'a> {
    /// Its descriptor, with its id and its name.
    pub descriptor: &'a Descriptor,
    /// The BE as it was found, or as it will be.
    pub environment: &'a BootEnvironment,
    /// The directory where its whole tree is mounted, perhaps for reading only; `/` for the running
    /// BE.
    pub root: &'a Path,
}

impl<'a> InstallTarget<'a> {
    /// The BE of `descriptor`, mounted at `root`.
    pub fn new(
        descriptor: &'a Descriptor,
        environment: &'a BootEnvironment,
        root: &'a Path,
    ) -> Self {
        InstallTarget { descriptor, environment, root }
    }
}

/// How a BE boots, as its loader sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootState {
    /// The number of its boot entry.
    pub entry: Option<u16>,
    /// The machine will start it next.
    pub next: bool,
    /// Its trial that is not confirmed.
    pub trial: Option<Trial>,
    /// Why its loader would not start it. Empty for a BE without a boot entry, which may have been
    /// made for another machine.
    pub problems: Vec<LoaderProblem>,
}

impl BootState {
    /// Why the entry and its files would not start the BE.
    pub(super) fn into_problems(self) -> Vec<LoaderProblem> {
        if self.entry.is_none() { vec![LoaderProblem::NoEntry] } else { self.problems }
    }
}

/// A stage of an operation's plan at which a loader is installed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the first [`Loader::install`] of an adopted system.
    InstallAdopted,
    /// Before the first [`Loader::install`] of a new BE.
    Install,
    /// Before an [`Loader::install`] of a BE that has a loader already.
    InstallAgain,
}

/// One step of a loader, with its line in a plan. What the step does is decided when it is made.
pub struct LoaderStep<'a> {
    line: String,
    action: Box<dyn Fn() -> Result<()> + 'a>,
}

impl<'a> LoaderStep<'a> {
    /// The step that `line`, in the imperative, describes and `action` does.
    pub fn new(line: impl Into<String>, action: impl Fn() -> Result<()> + 'a) -> Self {
        LoaderStep { line: line.into(), action: Box::new(action) }
    }

    /// Runs the step.
    ///
    /// # Errors
    /// The step failed. The steps after it must not run.
    pub fn run(&self) -> Result<()> {
        (self.action)()
    }
}

impl fmt::Debug for LoaderStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LoaderStep").field(&self.line).finish()
    }
}

impl fmt::Display for LoaderStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

impl<S> Step<S> for LoaderStep<'_> {
    fn run(&self, _: &mut S, _: &mut dyn Report) -> Result<()> {
        LoaderStep::run(self)
    }
}

/// The loader of one BE. The documentation of each method says when it runs. A method that returns
/// steps writes nothing itself.
pub trait Loader {
    /// Runs before the plan of an operation that installs the loader. Checks the firmware, the ESP
    /// and its free space, and that `source`, of which the target will be a copy, has the programs
    /// that make the loader. Returns notes for the plan.
    ///
    /// # Errors
    /// A [`Refusal`](crate::Refusal) that says what is missing, and what to do.
    fn prove(&self, source: &BootEnvironment) -> Result<Vec<String>>;

    /// The loader's settings in the BE itself, written before the copy's own programs run
    /// (`localize`) and after them (`write_menu`), and in a running system that becomes a BE
    /// (`adopt`).
    fn settings(&self) -> &dyn LoaderSettings;

    /// The plan's line for a stage that does not consist of steps.
    fn line(&self, stage: Stage) -> String;

    /// Runs when the BE's files are complete and localized, and whenever the loader is installed
    /// again. Writes the loader's files, then points the boot entry at them. A new entry is the
    /// last one and is not listed. An existing entry keeps its position.
    ///
    /// # Errors
    /// Installing failed. An older loader still starts the BE.
    fn install(&self, target: &InstallTarget) -> Result<()>;

    /// Sets whether the machine may start the BE by itself. Runs before the first write of an
    /// operation, with `false`, which calls off its pending trial too, and after its last sync,
    /// with `true`.
    ///
    /// # Errors
    /// The BE has no entry, or the firmware refuses the change.
    fn set_listed(&self, listed: bool) -> Result<()>;

    /// Runs before the plan of a switch. Checks that the machine would accept the loader and,
    /// unless `force`, that it has something else to fall back to. Returns notes for the plan.
    ///
    /// # Errors
    /// The refusal.
    fn prove_switch(&self, force: bool) -> Result<Vec<String>>;

    /// Runs after all checks of a switch on trial. The steps make the machine start the BE at the
    /// next boot only. At the boot after that it starts what runs now, unless the trial is
    /// confirmed.
    ///
    /// # Errors
    /// The present boot order cannot be read.
    fn try_once(&self) -> Result<Vec<LoaderStep<'_>>>;

    /// Runs after all checks of a permanent switch. The steps make the machine start the BE from
    /// now on.
    ///
    /// # Errors
    /// The present boot order cannot be read.
    fn make_default(&self) -> Result<Vec<LoaderStep<'_>>>;

    /// Runs when another BE was activated. Calls off the pending trial of this one, so that it is
    /// not reported as interrupted.
    ///
    /// # Errors
    /// The trial record cannot be written.
    fn call_off(&self) -> Result<()>;

    /// Runs in the BE that came up. Returns the state of its trial. A boot through another entry is
    /// not the trial.
    ///
    /// # Errors
    /// The ESP or the record on it is missing, perhaps not found yet, or damaged.
    fn running_trial(&self) -> Result<Option<Trial>>;

    /// Runs in the BE that came up. The steps make a running trial permanent, and read that back
    /// before they clear its record. If no trial is running, they only clear the count of attempts.
    ///
    /// # Errors
    /// Those of [`Loader::running_trial`], and the BE is incomplete.
    fn confirm(&self) -> Result<Vec<LoaderStep<'_>>>;

    /// Whether the machine starts the BE by itself from now on. Reads no disk.
    ///
    /// # Errors
    /// The boot order cannot be read.
    fn is_default(&self) -> Result<bool>;

    /// Runs in every scan. Returns how the BE boots; the default if this machine has no such
    /// loader. Writes nothing.
    ///
    /// # Errors
    /// The boot order cannot be read. Faults of this BE's own entry and files are problems instead.
    fn state(&self) -> Result<BootState>;

    /// Runs before a switch. Returns why the entry and its files would not start the BE. Writes
    /// nothing.
    ///
    /// # Errors
    /// As [`Loader::state`].
    fn problems(&self) -> Result<Vec<LoaderProblem>> {
        self.state().map(BootState::into_problems)
    }

    /// Runs after the descriptor has a new name. Makes the boot menu show it. Does nothing for a BE
    /// without a boot entry.
    ///
    /// # Errors
    /// The entry cannot be written.
    fn rename(&self, name: &Name) -> Result<()>;

    /// Runs before the plan of what makes the BE incomplete or removes it. Checks that something else
    /// remains that the machine could start, when the entries `gone` are removed too.
    ///
    /// # Errors
    /// The refusal.
    fn prove_another_boots(&self, gone: &[u16]) -> Result<()>;

    /// Runs before the BE's devices are erased. The steps remove what points at its loader, then
    /// the loader. They succeed when any of that does not exist. What is not proved to start this
    /// BE is left alone.
    ///
    /// # Errors
    /// The present boot entries cannot be read.
    fn remove(&self) -> Result<Vec<LoaderStep<'_>>>;

    /// Runs with [`Loader::remove`], before the plan. Returns notes on what is left alone although
    /// it is named like the BE's: it may be that of another one, whose disk is not here.
    ///
    /// # Errors
    /// As [`Loader::remove`].
    fn kept_by_removal(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Whether what its boot entry starts is proved to lead to this BE, and to nothing else.
    ///
    /// # Errors
    /// The present boot entries cannot be read.
    fn leads_here(&self) -> Result<bool>;

    /// The boot entries that [`Loader::remove`] removes.
    ///
    /// # Errors
    /// As [`Loader::remove`].
    fn removed_entries(&self) -> Result<Vec<u16>>;

    /// Runs before the plan of a removal. Refuses one after which the machine would start what is
    /// left alone, without the entries `gone`: a loader whose BE is gone.
    ///
    /// # Errors
    /// [`Refusal::KeptStartsFirst`](crate::Refusal::KeptStartsFirst), and the present boot entries
    /// cannot be read.
    fn refuse_kept_first(&self, gone: &[u16]) -> Result<()>;
}

#[cfg(test)]
/// Runs steps outside a plan.
///
/// # Errors
/// The error of the first step that failed. The steps after it did not run.
pub fn run(steps: &[LoaderStep]) -> Result<()> {
    steps.iter().try_for_each(LoaderStep::run)
}
