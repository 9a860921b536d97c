//! The steps of `be refresh`.

use std::collections::BTreeSet;
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use super::job::Job;
use crate::copy::{Mode, Trust};
use crate::environment::{self, Descriptor, Name, Operation, manifest};
use crate::error::{Error, Result};
use crate::layout::{MountPoint, TargetFileSystem, TreeCopy};
use crate::loader::firmware::lines;
use crate::loader::{self, Loader};
use crate::lossless;
use crate::operations::sync;
use crate::own_files;
use crate::plan::Report;
use crate::populate::source::{self, ReplayJournal};
use crate::populate::{self, TreeRequest};
use crate::root_dir::RootDir;
use crate::session::{Session, hooks};
use crate::step::{self, Step as _};
use crate::storage::mkfs;
use crate::storage::mounts::Mounted;
use crate::timestamp::Timestamp;

/// A step of `be refresh`. It contains what its line in the plan names.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Hook(hooks::Step<'a>),
    ReplayJournal(ReplayJournal<'a>),
    Begin(&'a Name),
    MakeInactive,
    /// Gives a file system the UUID that marks it as made for the target.
    TakeOver(&'a TargetFileSystem),
    Mount(&'a Name),
    Compare(TreeStep<'a>),
    Localize,
    Record(&'a Name),
    Sync(&'a Name),
    Complete(&'a Name),
    /// Only then does a loader see the files: on an xfs a sync leaves them in the log, which GRUB
    /// does not read.
    Unmount(&'a Name),
    MakeActive,
}

/// One tree of the layout, with the names that its step prints.
#[derive(Debug)]
pub(super) struct TreeStep<'a> {
    pub(super) tree: TreeCopy,
    pub(super) source: &'a str,
    pub(super) target: &'a TargetFileSystem,
    pub(super) checksum: bool,
}

/// What the steps share.
pub(super) struct State<'a> {
    job: &'a Job<'a>,
    session: &'a Session<'a>,
    hooks: hooks::State<'a>,
    /// How far the present content of the target is trusted.
    trust: Trust,
    /// The file systems of the target, all mounted.
    mounted: Vec<Mounted>,
    pub(super) descriptor: Descriptor,
    /// Entries in the target.
    pub(super) files: u64,
    /// Entries that differed and were written.
    pub(super) changed: u64,
    /// Entries that were removed.
    pub(super) removed: u64,
}

impl<'a> State<'a> {
    pub(super) fn new(job: &'a Job<'a>, session: &'a Session<'a>) -> Self {
        let target = job.descriptor.name.as_str();
        let hooks = job.hooks.state("refresh", target, &session.outside);
        State {
            job,
            session,
            hooks,
            trust: Trust::default(),
            mounted: Vec::new(),
            descriptor: job.descriptor.clone(),
            files: 0,
            changed: 0,
            removed: 0,
        }
    }

    /// Marks the target as incomplete. Its descriptor before that decides how far it is trusted.
    fn begin(&mut self) -> Result<()> {
        let root = self.job.root().ok_or_else(|| {
            Error::Failed(format!("'{}' has no root file system", self.descriptor.name))
        })?;
        let population = self.job.population(self.session);
        let mounted = population.mount_alone(root, &self.session.work.alone)?;
        let top = RootDir::open(mounted.dir())?;
        self.descriptor.refuse_other(&top, root.node())?;
        self.trust = self.mark(&top)?;
        drop(top);
        mounted.unmount()?;
        // The descriptor that is written at the end describes this refresh.
        self.descriptor.source = self.job.source.descriptor.as_ref().map(|d| d.id);
        let Job { layout, request, .. } = self.job;
        let before = std::mem::take(&mut self.descriptor.shared);
        // What is left stays shared, or the next refresh would ask again.
        let still = layout.left.iter().filter(|m| before.iter().any(|b| b == m.as_path()));
        let shared = layout.shared.iter().chain(&request.keep).chain(still);
        let shared: BTreeSet<PathBuf> = shared.map(|m| m.as_path().to_owned()).collect();
        self.descriptor.shared = shared.into_iter().collect();
        (self.descriptor.lost, self.descriptor.lost_more) = (Vec::new(), 0);
        Ok(())
    }

    fn mark(&mut self, root: &RootDir) -> Result<Trust> {
        let now = Timestamp::now();
        let source = self.job.source.descriptor.as_ref();
        // The times are valid only for the same source, and only if the clock was not set back.
        let same_source = source.is_some_and(|d| self.descriptor.source == Some(d.id));
        let complete = self.descriptor.completed.filter(|moment| same_source && *moment <= now);
        let checksum = self.job.request.checksum;
        // What another operation left is changed as if somebody had worked in it.
        let is_refresh = self.descriptor.operation == Some(Operation::Refresh);
        if self.descriptor.state == environment::State::Complete || !is_refresh {
            self.descriptor.begin(Operation::Refresh, root)?;
            return Ok(Trust { checksum, complete, interrupted: None });
        }
        let began = self.descriptor.began.filter(|moment| *moment <= now);
        if began.is_none() {
            self.descriptor.begin(Operation::Refresh, root)?;
        } else {
            // What is taken over is in it before the first device bears the mark.
            self.descriptor.go_on(root)?;
        }
        Ok(Trust {
            checksum: checksum || began.is_none(),
            complete,
            interrupted: began.map(Timestamp::earlier),
        })
    }

    fn loader(&self) -> Result<Box<dyn Loader + 'a>> {
        let Session { host, inventory, .. } = self.session;
        loader::for_environment(host, inventory, &self.job.target)
    }

    fn compare(&mut self, tree: &TreeCopy, report: &mut dyn Report) -> Result<()> {
        let job = self.job;
        let mut exclude =
            populate::exclude(self.session.host, &job.source, &job.request.selection, tree);
        let settings = job.own_settings.iter().map(PathBuf::from);
        let own = settings.chain(own_files::installed().map(PathBuf::from));
        for kept in own.chain(job.kept.iter().cloned()) {
            exclude = exclude.never(&Path::new("/").join(kept));
        }
        let (mode, totals) = (Mode::Refresh(self.trust), Some(job.totals));
        let request = TreeRequest { tree, exclude, mode, totals };
        let summary = job.population(self.session).copy(request, report)?;
        populate::note(&summary, &mut self.descriptor, report);
        self.files += summary.files;
        self.changed += summary.changed;
        self.removed += summary.removed;
        Ok(())
    }

    fn localize(&self, report: &mut dyn Report) -> Result<()> {
        let fstab = {
            let root = source::mount(self.session, &self.job.source, &MountPoint::root())?;
            let fstab = RootDir::open(root.dir())?.read("etc/fstab")?.unwrap_or_default();
            lossless::decode(&fstab)
        };
        let loader = self.loader()?;
        let population = self.job.population(self.session);
        let id = self.descriptor.id;
        population.localize(id, loader.settings(), None, Some(&fstab), report)
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Hook(hook) => hook.fmt(f),
            Step::ReplayJournal(journal) => journal.fmt(f),
            Step::Begin(name) => write!(f, "mark '{name}' as incomplete (refresh)"),
            Step::MakeInactive => f.write_str(lines::MAKE_INACTIVE),
            Step::TakeOver(target) => write!(
                f,
                "give {} the UUID that marks it as {} of this boot environment",
                target.node().display(),
                target.mountpoint
            ),
            Step::Mount(name) => write!(f, "mount the file systems of '{name}'"),
            Step::Compare(TreeStep { tree, source, target, checksum }) => write!(
                f,
                "compare {} on {} with {} of '{source}' {}: write what differs, remove what \
                '{source}' does not have",
                tree.target_directory().display(),
                target.node().display(),
                tree.source_directory().display(),
                if *checksum { "byte for byte" } else { "by size and times" }
            ),
            Step::Localize => f.write_str(
                "localize the target: fstab, loader settings, its own boot menu, be and its units",
            ),
            Step::Record(name) => write!(f, "write the manifest of '{name}'"),
            Step::Sync(name) => write!(f, "sync the file systems of '{name}'"),
            Step::Complete(name) => write!(f, "mark '{name}' as complete"),
            Step::Unmount(name) => write!(f, "unmount the file systems of '{name}'"),
            Step::MakeActive => f.write_str(lines::MAKE_ACTIVE),
        }
    }
}

impl Step<'_> {
    /// Whether it may take long and writes no boot entry and no loader file.
    fn is_long(&self) -> bool {
        match self {
            Step::Hook(_)
            | Step::ReplayJournal(_)
            | Step::TakeOver(_)
            | Step::Compare(_)
            | Step::Localize
            | Step::Record(_)
            | Step::Sync(_) => true,
            Step::Begin(_)
            | Step::MakeInactive
            | Step::Mount(_)
            | Step::Complete(_)
            | Step::Unmount(_)
            | Step::MakeActive => false,
        }
    }

    fn carry_out(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        let State { job, session, .. } = *state;
        let Session { inventory, work, .. } = session;
        state.hooks.begin();
        match self {
            Step::Hook(hook) => hook.run(&mut state.hooks, report),
            Step::ReplayJournal(journal) => journal.run(inventory, &job.holds, &work.source),
            Step::Begin(_) => state.begin(),
            Step::MakeInactive => state.loader()?.set_listed(false),
            Step::TakeOver(target) => {
                let hold = target.provision.hold(&job.holds)?;
                mkfs::set_uuid(target.fs_type.as_str(), hold, &job.uuids[&target.mountpoint])
            }
            Step::Mount(_) => {
                state.mounted = job.population(session).mount_target()?;
                Ok(())
            }
            Step::Compare(TreeStep { tree, .. }) => state.compare(tree, report),
            Step::Localize => state.localize(report),
            Step::Record(_) => {
                let (rules, began) = (manifest::rules([], &[]), state.descriptor.began);
                manifest::renew(&work.target, &rules, began, report)?;
                sync::base::keep_or_warn(&work.target, state.descriptor.source, report)
            }
            Step::Sync(_) => populate::sync(&state.mounted),
            Step::Complete(_) => state.descriptor.complete(&RootDir::open(&work.target)?),
            Step::Unmount(_) => populate::unmount(&mut state.mounted),
            Step::MakeActive => state.loader()?.set_listed(true),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        state.session.run_step(self.is_long(), || self.carry_out(state, report))
    }

    fn is_due_after_failure(&self, state: &State) -> bool {
        matches!(self, Step::Hook(hook) if hook.is_due_after_failure(&state.hooks))
    }

    fn completes_previous(&self) -> bool {
        matches!(self, Step::Unmount(_) | Step::MakeActive)
    }
}
