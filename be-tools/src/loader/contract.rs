//! What a loader promises: the trait that each one implements, and what its methods take and
//! return. `promises.rs` holds every implementation to it.

use std::fmt;
use std::path::Path;

use super::problem::LoaderProblem;
use crate::environment::{BootEnvironment, Descriptor, Name, Trial};
use crate::error::Result;
use crate::localize::LoaderSettings;
use crate::plan::Report;
use crate::step::Step;

/// A BE with its file systems mounted, as a loader needs it.
#[derive(Clone, Copy, Debug)]
pub struct InstallTarget<'a> {
    /// Its identity and name.
    pub descriptor: &'a Descriptor,
    /// As it was found, or will be.
    pub environment: &'a BootEnvironment,
    /// Where its whole tree is mounted, for writing; `/` for the running one.
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
    /// The machine starts it next.
    pub next: bool,
    /// A trial of it that is not confirmed.
    pub trial: Option<Trial>,
    /// Why its loader would not lead to it. A BE without a boot entry, made for another machine,
    /// has none.
    pub problems: Vec<LoaderProblem>,
}

/// What a loader does within the plan of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before the first [`Loader::install`] of an adopted system.
    InstallAdopted,
    /// Before the first [`Loader::install`] of a new BE.
    Install,
    /// Before an [`Loader::install`] of one that has it already.
    InstallAgain,
}

/// One thing that a loader does, with its line in a plan. What it will do was decided when it was
/// made.
pub struct LoaderStep<'a> {
    line: String,
    deed: Box<dyn Fn() -> Result<()> + 'a>,
}

impl<'a> LoaderStep<'a> {
    /// The step that `line`, in the imperative, tells and `deed` does.
    pub fn new(line: impl Into<String>, deed: impl Fn() -> Result<()> + 'a) -> Self {
        LoaderStep { line: line.into(), deed: Box::new(deed) }
    }

    /// Does it.
    ///
    /// # Errors
    /// What failed; the steps after it must not be run.
    pub fn run(&self) -> Result<()> {
        (self.deed)()
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

/// What makes one BE startable. Each method is named by when it runs, and has in its first sentence
/// what runs before it. Those that return steps write nothing: the steps do.
pub trait Loader {
    /// Runs before the plan of an operation that installs it: firmware, ESP, space, and that
    /// `source`, the BE the target will be a copy of, has what the loader is made with. Returns
    /// what the plan should say.
    ///
    /// # Errors
    /// A [`Refusal`](crate::Refusal) that says what is missing, and what to do.
    fn prove(&self, source: &BootEnvironment) -> Result<Vec<String>>;

    /// What it keeps in the BE itself, written before the copy's own programs run (`localize`) and
    /// after them (`write_menu`), and in a running system that becomes a BE (`adopt`).
    fn settings(&self) -> &dyn LoaderSettings;

    /// What the plan says of a stage that is not made of steps.
    fn line(&self, stage: Stage) -> String;

    /// Runs when the BE's files are complete and localized, and whenever its loader is made again:
    /// writes the loader's files, then makes the boot entry lead to them. A new entry is the last,
    /// and not listed; one that was there keeps its place.
    ///
    /// # Errors
    /// What was there before leads to the BE as it did.
    fn install(&self, target: &InstallTarget) -> Result<()>;

    /// Runs before the first write of an operation, with `false`, and after its last sync, with
    /// `true`: whether the machine may start the BE by itself.
    ///
    /// # Errors
    /// There is no entry, or the firmware refuses.
    fn set_listed(&self, listed: bool) -> Result<()>;

    /// Runs before the plan of a switch: that the machine would accept the loader, and has
    /// something else to fall back to; `force` waives the latter.
    ///
    /// # Errors
    /// The refusal.
    fn prove_switch(&self, force: bool) -> Result<()>;

    /// Runs when everything is checked: the BE is started at the next boot only, and what runs now
    /// at the one after it, unless it is confirmed.
    ///
    /// # Errors
    /// What is there now cannot be read.
    fn try_once(&self) -> Result<Vec<LoaderStep<'_>>>;

    /// Runs when everything is checked: the BE is started from now on.
    ///
    /// # Errors
    /// What is there now cannot be read.
    fn make_default(&self) -> Result<Vec<LoaderStep<'_>>>;

    /// Runs when another BE was activated: a trial of this one that was to come next will not, and
    /// is not called an interrupted one.
    ///
    /// # Errors
    /// Its record cannot be written.
    fn call_off(&self) -> Result<()>;

    /// Runs in the BE that came up: how its trial stands in this boot. A boot that came by another
    /// entry is not the trial.
    ///
    /// # Errors
    /// What it is read from is not there (yet), or damaged.
    fn running_trial(&self) -> Result<Option<Trial>>;

    /// Runs in the BE that came up: a running trial becomes permanent, and is read back before its
    /// record goes. Where no trial runs, only the count of attempts goes.
    ///
    /// # Errors
    /// As [`Loader::running_trial`], and the trial of an incomplete BE.
    fn confirm(&self) -> Result<Vec<LoaderStep<'_>>>;

    /// Whether the machine starts the BE by itself from now on. No disk is looked at.
    ///
    /// # Errors
    /// It cannot be read.
    fn is_default(&self) -> Result<bool>;

    /// Runs in every scan: how the BE boots. Writes nothing. Where this machine has nothing of such
    /// a loader, it is the default.
    ///
    /// # Errors
    /// What the machine boots cannot be read; what is wrong with this BE's part is a problem.
    fn state(&self) -> Result<BootState>;

    /// Runs before a switch: why entry and files would not lead to the BE. Writes nothing.
    ///
    /// # Errors
    /// As [`Loader::state`].
    fn problems(&self) -> Result<Vec<LoaderProblem>> {
        let BootState { entry, problems, .. } = self.state()?;
        Ok(if entry.is_none() { vec![LoaderProblem::NoEntry] } else { problems })
    }

    /// Runs after the descriptor has a new name: what menus show follows. A BE without a boot entry
    /// has nothing to follow.
    ///
    /// # Errors
    /// The entry cannot be written.
    fn rename(&self, name: &Name) -> Result<()>;

    /// Runs before the plan of a removal: that something else remains that the machine could
    /// start.
    ///
    /// # Errors
    /// The refusal.
    fn prove_removal(&self) -> Result<()>;

    /// Runs before the BE's devices are erased: what points at its loader goes, then the loader.
    /// What is gone already is no error, nor is a machine that never had it.
    ///
    /// # Errors
    /// What is there now cannot be read.
    fn remove(&self) -> Result<Vec<LoaderStep<'_>>>;
}

#[cfg(test)]
/// Runs steps outside a plan.
///
/// # Errors
/// The first one that failed; those after it were not run.
pub fn run(steps: &[LoaderStep]) -> Result<()> {
    steps.iter().try_for_each(LoaderStep::run)
}
