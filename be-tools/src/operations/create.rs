//! `be create`: a new BE from an existing one, by blocks or by files.

mod blocks;
mod method;
mod prepare;
mod target;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use method::Method;

use crate::block_copy;
use crate::copy::Mode;
use crate::environment::{BootEnvironment, Descriptor, Name, Operation};
use crate::error::Result;
use crate::host::Host;
use crate::layout::{Layout, MountPoint, Placement, TreeCopy};
use crate::loader::{self, Subject};
use crate::localize::identity::{self, NewMachine};
use crate::operations::adopt::Adoption;
use crate::operations::delete;
use crate::plan::{Report, go_on};
use crate::populate::{self, Filling, source};
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::session::work_dirs::WorkDirs;
use crate::storage::mkfs;
use crate::storage::mounts::{self, Mounted};
use crate::tree::exclude::Selection;
use crate::tree::measure::Totals;

/// What the user asked for.
#[derive(Debug)]
pub struct Request {
    /// The new BE's name.
    pub name: Name,
    /// What to copy; the running BE if `None`.
    pub from: Option<String>,
    /// Make file systems and copy nothing.
    pub empty: bool,
    /// The `-m` arguments.
    pub placements: Vec<Placement>,
    /// The BE whose devices become the target.
    pub replace: Option<String>,
    /// How the target gets its content.
    pub method: Method,
    /// What is left out.
    pub selection: Selection,
    /// Free text.
    pub description: String,
    /// Name for the running system, if it has to be adopted.
    pub current: Option<Name>,
    /// New machine-id and ssh host keys.
    pub new_machine: bool,
    /// Write loader and boot entry.
    pub boot_entry: bool,
    /// Erase devices that hold data.
    pub force: bool,
}

/// Everything that was decided and checked before the first write.
struct Job<'a> {
    request: &'a Request,
    source: Option<BootEnvironment>,
    adoption: Option<Adoption>,
    replaced: Option<BootEnvironment>,
    layout: Layout,
    /// Of the layout's file systems.
    uuids: BTreeMap<MountPoint, String>,
    /// Of the layout's swap spaces, in their order.
    swap_uuids: Vec<String>,
    /// Devices of the source whose journal has to be replayed first.
    journals: Vec<PathBuf>,
    /// File systems of the target that are filled by blocks, by their mount points.
    blocks: BTreeMap<MountPoint, method::Blocks>,
    /// What the files to copy come to.
    totals: Totals,
    /// What the loader has to say.
    notes: Vec<String>,
    /// What is run around the copy.
    hooks: Hooks,
    /// The new BE as it will be found afterwards.
    target: BootEnvironment,
    descriptor: Descriptor,
}

impl Job<'_> {
    /// It gets a loader and a boot entry.
    fn is_bootable(&self) -> bool {
        self.request.boot_entry && self.source.is_some()
    }
}

/// Makes a new BE and returns its descriptor; `None` when the report stopped after the plan.
///
/// # Errors
/// A [`Refusal`](crate::Refusal) before anything is written; any other error leaves a BE that says
/// it is incomplete, and the command can be run again.
pub fn create(
    host: &Host,
    request: &Request,
    report: &mut dyn Report,
) -> Result<Option<Descriptor>> {
    let session = Session::new(host, "create")?;
    let job = Job::prepare(&session, request)?;
    if !report.confirm(&job.plan(&session)?)? {
        return Ok(None);
    }
    job.run(&session, report).map(Some)
}

impl Job<'_> {
    fn run(mut self, session: &Session, report: &mut dyn Report) -> Result<Descriptor> {
        let Session { host, inventory, work, outside, .. } = session;
        if let Some(adoption) = self.adoption.take() {
            let adopted = adoption.run(host, inventory, self.request.boot_entry, report)?;
            self.descriptor.source = Some(adopted.id);
        }
        let hooks = std::mem::take(&mut self.hooks);
        let target = self.request.name.as_str();
        let mounted =
            hooks.around("create", target, outside, report, |report| self.copy(session, report))?;
        self.localize(session, report)?;
        if self.is_bootable() {
            go_on()?;
            report.part("writing its loader and boot entry");
            let loader = loader::for_new(host, inventory, &self.target)?;
            loader.install(&Subject::new(&self.descriptor, &self.target, &work.target))?;
        }
        populate::sync(&mounted, report)?;
        self.descriptor.complete(&RootDir::open(&work.target)?)?;
        if self.is_bootable() {
            loader::for_new(host, inventory, &self.target)?.set_active(self.descriptor.id, true)?;
        }
        Ok(self.descriptor)
    }

    /// Makes the target's file systems and brings over what the source holds. They stay mounted.
    fn copy(&mut self, session: &Session, report: &mut dyn Report) -> Result<Vec<Mounted>> {
        let Session { host, inventory, work, .. } = session;
        if let Some(replaced) = &self.replaced {
            delete::forget(host, inventory, replaced, report)?;
        }
        source::replay_journals(inventory, &self.journals, &work.source, report)?;
        self.descriptor.made = self.uuids.values().chain(&self.swap_uuids).cloned().collect();
        self.make_file_systems(session, report)?;
        let mounted = populate::mount_target(&self.layout, &work.target)?;
        self.copy_trees(session, report)?;
        Ok(mounted)
    }

    /// Makes what the target consists of. The root is the first, and says whose the others are
    /// before they are made.
    fn make_file_systems(&mut self, session: &Session, report: &mut dyn Report) -> Result<()> {
        let Session { inventory, work, .. } = session;
        for file_system in &self.layout.file_systems {
            go_on()?;
            let (mountpoint, fs_type) = (&file_system.mountpoint, file_system.fs_type);
            let taken = inventory
                .devices
                .iter()
                .filter_map(|d| Some(d.super_block()?.label.clone()))
                .collect();
            let label = identity::label(
                &self.descriptor.name,
                self.descriptor.id,
                mountpoint,
                fs_type,
                &taken,
            );
            if let Some(blocks) = self.blocks.get(mountpoint) {
                let pair = (file_system, blocks);
                self.copy_blocks(session, pair, label.as_deref(), report)?;
            } else {
                report.part(&format!("making {fs_type} on {}", file_system.device.display()));
                mkfs::make(
                    fs_type.as_str(),
                    &file_system.device,
                    &self.uuids[mountpoint],
                    label.as_deref(),
                )?;
            }
            if mountpoint.is_root() {
                let mounted =
                    mounts::mount_target(&file_system.device, fs_type.as_str(), &work.alone)?;
                self.descriptor.begin(Operation::Create, &RootDir::open(mounted.dir())?)?;
                mounted.unmount()?;
            }
        }
        for (device, uuid) in self.layout.swap.iter().zip(&self.swap_uuids) {
            mkfs::make("swap", device, uuid, None)?;
        }
        Ok(())
    }

    /// Copies every tree of the layout.
    fn copy_trees(&mut self, session: &Session, report: &mut dyn Report) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        for tree in self.layout.copies() {
            go_on()?;
            if self.blocks.contains_key(&tree.target) {
                self.remove_left_out(&session.work, source, &tree)?;
                continue;
            }
            report.part(&format!("copying the files of {} of '{}'", tree.source, source.name()));
            let rules = populate::exclude(source, &self.request.selection, &tree);
            let filling = self.filling(session, source);
            let summary = filling.copy(&tree, rules, (Mode::Fresh, Some(self.totals)), report)?;
            populate::note(&summary, &mut self.descriptor, report);
        }
        Ok(())
    }

    fn localize(&self, session: &Session, report: &mut dyn Report) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        let new_machine = self.request.new_machine.then(NewMachine::default);
        let filling = self.filling(session, source);
        filling.localize(self.descriptor.id, new_machine.as_ref(), None, report)
    }

    fn filling<'a>(&'a self, session: &'a Session, source: &'a BootEnvironment) -> Filling<'a> {
        let (layout, uuids, swap_uuids) = (&self.layout, &self.uuids, &self.swap_uuids);
        Filling { session, source, layout, uuids, swap_uuids }
    }

    /// Takes from a block copy what a file copy would not have copied.
    fn remove_left_out(
        &self,
        work: &WorkDirs,
        source: &BootEnvironment,
        tree: &TreeCopy,
    ) -> Result<()> {
        let Some(target) = self.layout.at(&tree.target) else { return Ok(()) };
        let mounted = mounts::mount_target(&target.device, target.fs_type.as_str(), &work.alone)?;
        let rules = populate::exclude(source, &self.request.selection, tree);
        block_copy::remove_left_out(mounted.dir(), tree.target.as_path(), &rules)
    }
}
