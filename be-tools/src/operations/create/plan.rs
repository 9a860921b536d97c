//! The steps of `be create`, in order, and its plan.

use std::path::Path;

use super::job::Job;
use super::step::{Step, TreeStep};
use crate::environment::BootEnvironment;
use crate::error::Result;
use crate::loader::{self, Loader, Stage};
use crate::operations::delete::Deletion;
use crate::plan::Plan;
use crate::populate::source::ReplayJournal;
use crate::session::Session;
use crate::step::lines;
use crate::storage::hold::Holds;

/// The loaders of the BEs that the plan changes.
pub(super) struct Loaders<'a> {
    adopted: Option<Box<dyn Loader + 'a>>,
    replaced: Option<Box<dyn Loader + 'a>>,
    target: Box<dyn Loader + 'a>,
}

/// The removal of the BE that the new one replaces.
pub(super) fn deletion<'a>(
    session: &'a Session,
    environment: &'a BootEnvironment,
    holds: &'a Holds,
) -> Deletion<'a> {
    Deletion { host: session.host, inventory: &session.inventory, environment, holds, before: &[] }
}

impl Job<'_> {
    /// The loaders of the BEs that the plan changes.
    ///
    /// # Errors
    /// A descriptor names a loader that this program does not know.
    pub(super) fn loaders<'a>(&'a self, session: &'a Session) -> Result<Loaders<'a>> {
        let Session { host, inventory, .. } = session;
        let of = |environment| loader::for_environment(host, inventory, environment);
        Ok(Loaders {
            adopted: self.adoption.as_ref().map(|a| of(a.environment())).transpose()?,
            replaced: self.replaced.as_ref().map(of).transpose()?,
            target: loader::for_environment(host, inventory, &self.target)?,
        })
    }

    /// The steps.
    ///
    /// # Errors
    /// The running system, which is to be adopted, cannot be read.
    pub(super) fn steps<'a>(
        &'a self,
        session: &'a Session,
        loaders: &'a Loaders,
    ) -> Result<Vec<Step<'a>>> {
        let name = &self.descriptor.name;
        let mut steps = Vec::new();
        if let (Some(adoption), Some(loader)) = (&self.adoption, &loaders.adopted) {
            let adopting = adoption.steps(&**loader, self.request.boot_entry)?;
            steps.extend(adopting.into_iter().map(Step::Adopt));
        }
        steps.extend(self.hooks.before().map(Step::Hook));
        if let (Some(replaced), Some(loader)) = (&self.replaced, &loaders.replaced) {
            let removal = deletion(session, replaced, &self.holds).steps(&**loader)?;
            steps.extend(removal.into_iter().map(Step::Replace));
        }
        steps.extend(self.journals.iter().map(|j| Step::ReplayJournal(ReplayJournal(j))));
        steps.extend(self.make_steps());
        steps.push(Step::Mount(name));
        if self.source.is_some() {
            steps.extend(self.tree_steps());
            steps.extend(self.hooks.after().map(Step::Hook));
            steps.push(Step::Localize);
        }
        steps.extend(
            self.is_bootable().then(|| Step::InstallLoader(loaders.target.line(Stage::Install))),
        );
        steps.extend(self.source.is_some().then_some(Step::Record(name)));
        steps.extend([Step::Sync(name), Step::Complete(name), Step::Unmount(name)]);
        steps.extend(self.is_bootable().then_some(Step::MakeActive));
        Ok(steps)
    }

    /// The steps that make the file systems and swap spaces of the target. The root is the first:
    /// its descriptor shows that the others belong to the target, before they are made.
    fn make_steps(&self) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        for target in &self.layout.file_systems {
            match self.blocks.get(&target.mountpoint) {
                Some(blocks) => {
                    let source = self.source_name();
                    steps.extend([
                        Step::CopyBlocks { blocks, target, source },
                        Step::Grow(blocks),
                        Step::Check(blocks),
                    ]);
                }
                None if target.mountpoint.is_root() => steps.push(Step::MakeRoot(target)),
                None => steps.push(Step::MakeFileSystem(target)),
            }
        }
        let swap = self.layout.swap.iter().zip(&self.swap_uuids);
        steps.extend(swap.map(|(provision, uuid)| Step::MakeSwap { provision, uuid }));
        steps
    }

    /// The steps that fill the file systems of the target.
    fn tree_steps(&self) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        for tree in self.layout.copies() {
            let Some(target) = self.layout.at(&tree.target) else { continue };
            let is_copied = self.blocks.contains_key(&tree.target);
            let step = TreeStep { tree, source: self.source_name(), target };
            steps.push(if is_copied { Step::RemoveLeftOut(step) } else { Step::CopyFiles(step) });
        }
        steps
    }

    /// The plan with these steps.
    pub(super) fn plan(&self, session: &Session, steps: &[Step]) -> Plan {
        let name = &self.descriptor.name;
        let title = match self.source {
            Some(_) => {
                format!("Create boot environment '{name}', a copy of '{}'", self.source_name())
            }
            None => format!("Create the empty boot environment '{name}'"),
        };
        let mut plan = Plan { title, steps: lines(steps), ..Plan::default() };
        for file_system in &self.layout.file_systems {
            let becomes =
                format!("{} of '{name}' ({})", file_system.mountpoint, file_system.fs_type);
            plan.devices.push(file_system.provision.planned(becomes));
        }
        for swap in &self.layout.swap {
            plan.devices.push(swap.planned(format!("swap of '{name}'")));
        }
        if let Some(old) = &self.replaced {
            let own = old.own_devices();
            for device in &mut plan.devices {
                let is_own = own.iter().any(|node| **node == *Path::new(&device.device));
                device.environment = is_own.then(|| old.name().to_owned());
            }
        }
        plan.notes.clone_from(&self.notes);
        plan.notes.extend((!self.blocks.is_empty()).then(|| {
            format!(
                "a copy by blocks reads no files: the manifest has the content of those that the \
                manifest of '{}' has, and with `be verify --record {name}` that of all",
                self.source_name()
            )
        }));
        if let Some(source) = self.source.as_ref().filter(|s| !s.running && !s.is_managed()) {
            plan.notes.push(format!(
                "localizing the copy runs programs of '{}', a system that Lifeboat did not make, shut \
                off from this one",
                source.name()
            ));
        }
        if !self.layout.shared.is_empty() {
            let shared: Vec<_> = self.layout.shared.iter().map(ToString::to_string).collect();
            plan.notes.push(format!(
                "not copied, but shared with '{}': {} (-m MOUNTPOINT:DEVICE:FSTYPE copies one)",
                self.source_name(),
                shared.join(", ")
            ));
        }
        if let Some(old) = &self.replaced {
            plan.notes.extend(deletion(session, old, &self.holds).notes());
        }
        plan
    }
}
