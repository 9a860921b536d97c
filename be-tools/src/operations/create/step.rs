//! The steps of `be create`.

use std::fmt::{Display, Formatter};
use std::path::Path;

use indicatif::HumanBytes;

use super::blocks::Blocks;
use super::job::Job;
use crate::block_copy::{self, Identity};
use crate::copy::Mode;
use crate::environment::manifest::{self, MANIFEST_PATH};
use crate::environment::{BootEnvironment, DESCRIPTOR_PATH, Descriptor, Name, Operation};
use crate::error::{Error, Result};
use crate::layout::{TargetFileSystem, TreeCopy};
use crate::loader::firmware::lines;
use crate::loader::{self, InstallTarget, Loader};
use crate::localize::identity::NewMachine;
use crate::operations::adopt;
use crate::operations::delete::{self, Deletion};
use crate::operations::sync;
use crate::plan::Report;
use crate::populate::source::ReplayJournal;
use crate::populate::{self, TreeRequest};
use crate::root_dir::RootDir;
use crate::session::{Session, hooks};
use crate::step::{self, Step as _};
use crate::storage::mkfs;
use crate::storage::mounts::Mounted;
use crate::storage::provision::Provision;
use crate::tree::manifest::{Manifest, Unknown};

/// A step of `be create`. It contains what its line in the plan names.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Adopt(adopt::Step<'a>),
    Hook(hooks::Step<'a>),
    /// Removes the BE whose devices become the target.
    Replace(delete::Step<'a>),
    ReplayJournal(ReplayJournal<'a>),
    /// Makes the root file system, with a descriptor by which those made after it are recognized.
    MakeRoot(&'a TargetFileSystem),
    MakeFileSystem(&'a TargetFileSystem),
    CopyBlocks {
        blocks: &'a Blocks,
        target: &'a TargetFileSystem,
        source: &'a str,
    },
    Grow(&'a Blocks),
    Check(&'a Blocks),
    MakeSwap {
        provision: &'a Provision,
        uuid: &'a str,
    },
    Mount(&'a Name),
    CopyFiles(TreeStep<'a>),
    /// Removes from a block copy what a file copy would have left out.
    RemoveLeftOut(TreeStep<'a>),
    Localize,
    InstallLoader(String),
    Record(&'a Name),
    Sync(&'a Name),
    Complete(&'a Name),
    /// Only then does a loader see the files: on an xfs a sync leaves them in the log, which GRUB
    /// does not read.
    Unmount(&'a Name),
    MakeActive,
}

/// One tree of the layout, with the names that its steps print.
#[derive(Debug)]
pub(super) struct TreeStep<'a> {
    pub(super) tree: TreeCopy,
    pub(super) source: &'a str,
    pub(super) target: &'a TargetFileSystem,
}

/// What the steps share.
pub(super) struct State<'a> {
    job: &'a Job<'a>,
    session: &'a Session<'a>,
    adoption: Option<adopt::State<'a>>,
    hooks: hooks::State<'a>,
    /// The file systems of the target, all mounted.
    mounted: Vec<Mounted>,
    pub(super) descriptor: Descriptor,
    /// The manifest that the source had where its blocks were copied. The copies of its inodes have
    /// their numbers and times.
    known: Manifest,
}

impl<'a> State<'a> {
    pub(super) fn new(job: &'a Job<'a>, session: &'a Session<'a>) -> Self {
        let adoption = job.adoption.as_ref().map(|a| a.begin(session.host, &session.inventory));
        let target = job.request.name.as_str();
        let hooks = job.hooks.state("create", target, &session.outside);
        let descriptor = job.descriptor.clone();
        let (mounted, known) = (Vec::new(), Manifest::default());
        State { job, session, adoption, hooks, mounted, descriptor, known }
    }

    fn source(&self) -> Result<&'a BootEnvironment> {
        let found = self.job.source.as_ref();
        found.ok_or_else(|| Error::Failed("an empty boot environment has no source".into()))
    }

    fn make(&self, target: &TargetFileSystem) -> Result<()> {
        mkfs::make(
            target.fs_type.as_str(),
            target.provision.hold(&self.job.holds)?,
            &self.job.uuids[&target.mountpoint],
            self.job.label(&self.session.inventory, target).as_deref(),
        )
    }

    /// Mounts one file system of the target. An empty BE has no source to be populated from.
    fn mount_alone(&self, target: &TargetFileSystem) -> Result<Mounted> {
        let source = self.job.source.as_ref().unwrap_or(&self.job.target);
        let population = self.job.population(self.session, source);
        population.mount_alone(target, &self.session.work.alone)
    }

    /// Marks the target as incomplete on its root file system.
    fn write_descriptor(&mut self, root: &TargetFileSystem) -> Result<()> {
        let mounted = self.mount_alone(root)?;
        self.descriptor.begin(Operation::Create, &RootDir::open(mounted.dir())?)?;
        mounted.unmount()
    }

    fn copy_blocks(
        &self,
        blocks: &Blocks,
        target: &TargetFileSystem,
        report: &mut dyn Report,
    ) -> Result<()> {
        let uuid = &self.job.uuids[&target.mountpoint];
        let uuid =
            uuid::Uuid::parse_str(uuid).map_err(|e| Error::Failed(format!("UUID {uuid}: {e}")))?;
        let label = self.job.label(&self.session.inventory, target).unwrap_or_default();
        let identity = Identity { uuid, label };
        let (session, holds) = (self.session, &self.job.holds);
        blocks.copy(session, self.source()?, &self.descriptor, identity, holds, report)
    }

    fn copy_files(&mut self, tree: &TreeCopy, report: &mut dyn Report) -> Result<()> {
        let source = self.source()?;
        let request = TreeRequest {
            tree,
            exclude: populate::exclude(
                self.session.host,
                source,
                &self.job.request.selection,
                tree,
            ),
            mode: Mode::Fresh,
            totals: Some(self.job.totals),
        };
        let summary = self.job.population(self.session, source).copy(request, report)?;
        populate::note(&summary, &mut self.descriptor, report);
        Ok(())
    }

    fn remove_left_out(&mut self, TreeStep { tree, target, .. }: &TreeStep) -> Result<()> {
        let mounted = self.mount_alone(target)?;
        if let Ok(path) = Path::new("/").join(MANIFEST_PATH).strip_prefix(tree.target.as_path()) {
            let known = manifest::read_at(&RootDir::open(mounted.dir())?, path).ok().flatten();
            self.known = known.unwrap_or_default();
        }
        let rules =
            populate::exclude(self.session.host, self.source()?, &self.job.request.selection, tree);
        block_copy::remove_left_out(mounted.dir(), tree.target.as_path(), &rules)
    }

    fn localize(&self, report: &mut dyn Report) -> Result<()> {
        let new_machine = self.job.request.new_machine.then(NewMachine::default);
        let population = self.job.population(self.session, self.source()?);
        population.localize(
            self.descriptor.id,
            self.loader()?.settings(),
            new_machine.as_ref(),
            None,
            report,
        )
    }

    fn loader(&self) -> Result<Box<dyn Loader + 'a>> {
        loader::for_environment(self.session.host, &self.session.inventory, &self.job.target)
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Adopt(step) => step.fmt(f),
            Step::Hook(hook) => hook.fmt(f),
            Step::Replace(step) => step.fmt(f),
            Step::ReplayJournal(journal) => journal.fmt(f),
            Step::MakeRoot(root) => write!(
                f,
                "make {} on {}, with the descriptor /{DESCRIPTOR_PATH}: incomplete",
                root.fs_type,
                root.node().display()
            ),
            Step::MakeFileSystem(target) => {
                write!(f, "make {} on {}", target.fs_type, target.node().display())
            }
            Step::CopyBlocks { blocks, target, source } => {
                let device = target.node().display();
                write!(f, "copy the blocks of {} of '{source}' to {device}", blocks.source)?;
                if let Some(bytes) = blocks.bytes {
                    write!(f, " ({})", HumanBytes(bytes))?;
                }
                f.write_str(", with a UUID of its own")?;
                if target.mountpoint.is_root() {
                    write!(f, " and the descriptor /{DESCRIPTOR_PATH}: incomplete")?;
                }
                Ok(())
            }
            Step::Grow(blocks) => {
                write!(
                    f,
                    "grow the copy of {} to {}",
                    blocks.source,
                    blocks.target.node().display()
                )
            }
            Step::Check(blocks) => {
                write!(
                    f,
                    "check the copy of {} on {}",
                    blocks.source,
                    blocks.target.node().display()
                )
            }
            Step::MakeSwap { provision, .. } => {
                write!(f, "make swap on {}", provision.node().display())
            }
            Step::Mount(name) => write!(f, "mount the file systems of '{name}'"),
            Step::CopyFiles(TreeStep { tree, source, target }) => write!(
                f,
                "copy the files of {} of '{source}' to {} ({})",
                tree.source_directory().display(),
                target.node().display(),
                tree.target_directory().display()
            ),
            Step::RemoveLeftOut(TreeStep { tree, target, .. }) => write!(
                f,
                "remove from the copy of {} on {} what is never copied",
                tree.source,
                target.node().display()
            ),
            Step::Localize => f.write_str(
                "localize the copy: fstab, loader settings, its own boot menu, be and its units",
            ),
            Step::InstallLoader(line) => f.write_str(line),
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
            | Step::MakeRoot(_)
            | Step::MakeFileSystem(_)
            | Step::CopyBlocks { .. }
            | Step::Grow(_)
            | Step::Check(_)
            | Step::CopyFiles(_)
            | Step::RemoveLeftOut(_)
            | Step::Localize
            | Step::Record(_)
            | Step::Sync(_) => true,
            Step::Adopt(_)
            | Step::Replace(_)
            | Step::MakeSwap { .. }
            | Step::Mount(_)
            | Step::InstallLoader(_)
            | Step::Complete(_)
            | Step::Unmount(_)
            | Step::MakeActive => false,
        }
    }

    fn carry_out(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        let State { job, session, .. } = *state;
        let Session { host, inventory, work, .. } = session;
        let holds = &job.holds;
        if let (Step::Adopt(step), Some(adoption)) = (self, &mut state.adoption) {
            return step.run(adoption, report);
        }
        state.hooks.begin();
        match self {
            Step::Adopt(_) => Ok(()),
            Step::Hook(hook) => hook.run(&mut state.hooks, report),
            Step::Replace(step) => {
                let Some(environment) = &job.replaced else { return Ok(()) };
                let before = &[];
                step.run(&mut Deletion { host, inventory, environment, holds, before }, report)
            }
            Step::ReplayJournal(journal) => journal.run(inventory, holds, &work.source),
            Step::MakeRoot(root) => {
                state.make(root)?;
                state.write_descriptor(root)
            }
            Step::MakeFileSystem(target) => state.make(target),
            Step::CopyBlocks { blocks, target, .. } => {
                state.copy_blocks(blocks, target, report)?;
                // The copied blocks contain a short descriptor, which does not list what was made.
                if target.mountpoint.is_root() { state.write_descriptor(target) } else { Ok(()) }
            }
            Step::Grow(blocks) => blocks.grow(holds, &work.alone),
            Step::Check(blocks) => blocks.check(holds),
            Step::MakeSwap { provision, uuid } => {
                mkfs::make("swap", provision.hold(holds)?, uuid, None)
            }
            Step::Mount(_) => {
                let source = job.source.as_ref().unwrap_or(&job.target);
                state.mounted = job.population(session, source).mount_target()?;
                Ok(())
            }
            Step::CopyFiles(TreeStep { tree, .. }) => state.copy_files(tree, report),
            Step::RemoveLeftOut(tree) => state.remove_left_out(tree),
            Step::Localize => state.localize(report),
            Step::InstallLoader(_) => {
                let target = InstallTarget::new(&state.descriptor, &job.target, &work.target);
                state.loader()?.install(&target)
            }
            Step::Record(_) => {
                let rules = manifest::rules([], &[]);
                let unknown = match state.descriptor.began.filter(|_| !job.blocks.is_empty()) {
                    Some(began) => Unknown::ReadSince(began),
                    None => Unknown::Read,
                };
                manifest::begin(&work.target, &rules, &state.known, unknown, report)?;
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
        match self {
            Step::Adopt(step) => step.completes_previous(),
            step => matches!(step, Step::Unmount(_) | Step::MakeActive),
        }
    }
}
