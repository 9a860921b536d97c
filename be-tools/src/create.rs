//! `be create`: a new BE from an existing one, by file copy.

mod prepare;
mod source;
mod target;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::adopt::Adoption;
use crate::copy::{self, Totals};
use crate::delete;
use crate::discover::{self, Inventory};
use crate::environment::{BootEnvironment, Descriptor, Name, Operation};
use crate::error::{Doing, Result};
use crate::identity::{self, NewMachine};
use crate::layout::{Layout, MountPoint, Wish};
use crate::loader::{self, Subject};
use crate::localize::{self, Localization};
use crate::plan::{Report, go_on};
use crate::rooted::Rooted;
use crate::run::Inside;
use crate::storage::lock::Lock;
use crate::storage::mkfs;
use crate::storage::mounts::{self, Mounted};
use crate::system::System;

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
    pub wishes: Vec<Wish>,
    /// The BE whose devices become the target.
    pub replace: Option<String>,
    /// Globs to leave out.
    pub exclude: Vec<String>,
    /// Globs to copy even so.
    pub include: Vec<String>,
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
    /// What each source file system will bring.
    totals: Totals,
    /// What the loader has to say.
    notes: Vec<String>,
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
/// A [`Refusal`](crate::Refusal) before anything is written; any other error leaves a BE that says it is
/// incomplete, and the command can be run again.
pub fn create(system: &System, request: &Request, report: &mut dyn Report) -> Result<Option<Descriptor>> {
    let _lock = Lock::acquire(system)?;
    let inventory = discover::discover(system)?;
    mounts::enter_private_namespace()?;
    let work = Work::new(system)?;
    let job = Job::prepare(system, &inventory, request, &work)?;
    if !report.confirm(&job.plan(&inventory)?)? {
        return Ok(None);
    }
    job.run(system, &inventory, &work, report).map(Some)
}

impl Job<'_> {
    fn run(
        mut self,
        system: &System,
        inventory: &Inventory,
        work: &Work,
        report: &mut dyn Report,
    ) -> Result<Descriptor> {
        if let Some(adoption) = self.adoption.take() {
            let adopted = adoption.run(system, inventory, self.request.boot_entry, report)?;
            self.descriptor.source = Some(adopted.id);
        }
        if let Some(replaced) = &self.replaced {
            delete::forget(system, inventory, replaced, report)?;
        }
        for node in &self.journals {
            report.step(&format!("replaying the journal on {}", node.display()));
            source::replay_journal(inventory, node, &work.source)?;
        }
        self.make_file_systems(inventory, report)?;
        let _mounted = self.mount_target(&work.target)?;
        let root = Rooted::open(&work.target)?;
        self.descriptor.begin(Operation::Create, &root)?;
        self.copy(system, inventory, work, report)?;
        if self.source.is_some() {
            self.localize(inventory, work, report)?;
        }
        if self.is_bootable() {
            go_on()?;
            report.step("writing its loader and boot entry");
            let loader = loader::for_new(system, inventory, &self.target)?;
            loader.install(&Subject::new(&self.descriptor, &self.target, &work.target))?;
        }
        go_on()?;
        report.step("syncing");
        for file_system in &self.layout.file_systems {
            Rooted::open(&work.target.join(file_system.mountpoint.relative()))?.sync()?;
        }
        self.descriptor.complete(&root)?;
        if self.is_bootable() {
            loader::for_new(system, inventory, &self.target)?.set_active(self.descriptor.id, true)?;
        }
        Ok(self.descriptor)
    }

    fn make_file_systems(&self, inventory: &Inventory, report: &mut dyn Report) -> Result<()> {
        for file_system in &self.layout.file_systems {
            go_on()?;
            report.step(&format!("making {} on {}", file_system.fs_type, file_system.device.display()));
            let (mountpoint, fs_type) = (&file_system.mountpoint, file_system.fs_type);
            let taken =
                inventory.devices.iter().filter_map(|d| Some(d.super_block()?.label.clone())).collect();
            let label =
                identity::label(&self.descriptor.name, self.descriptor.id, mountpoint, fs_type, &taken);
            mkfs::make(fs_type.as_str(), &file_system.device, &self.uuids[mountpoint], label.as_deref())?;
        }
        for (device, uuid) in self.layout.swap.iter().zip(&self.swap_uuids) {
            mkfs::make("swap", device, uuid, None)?;
        }
        Ok(())
    }

    /// Mounts the new file systems as the new BE will.
    fn mount_target(&self, folder: &Path) -> Result<Vec<Mounted>> {
        let mut mounted = Vec::new();
        for file_system in &self.layout.file_systems {
            let place = folder.join(file_system.mountpoint.relative());
            std::fs::create_dir_all(&place).at("making the folder", &place)?;
            mounted.push(mounts::mount_target(&file_system.device, file_system.fs_type.as_str(), &place)?);
        }
        Ok(mounted)
    }

    /// Copies every tree of the layout, each from and to a file system on which nothing else is mounted.
    fn copy(
        &mut self,
        system: &System,
        inventory: &Inventory,
        work: &Work,
        report: &mut dyn Report,
    ) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        for tree in self.layout.copies() {
            go_on()?;
            report.step(&format!("copying {} of '{}'", tree.source, source.name()));
            let from = source::mount(system, inventory, source, &tree.source, &work.source)?;
            let to = self
                .layout
                .at(&tree.target)
                .map(|f| mounts::mount_target(&f.device, f.fs_type.as_str(), &work.alone));
            let to = to
                .transpose()?
                .ok_or_else(|| crate::Error::Failed(format!("{} has no place in the target", tree.target)))?;
            let target = to.dir().join(&tree.to);
            std::fs::create_dir_all(&target).at("making the folder", &target)?;
            let place = tree.source.as_path().join(&tree.from);
            let request = copy::Request {
                source: &from.dir().join(&tree.from),
                target: &target,
                mountpoint: &place,
                exclude: prepare::exclude(self.request, &tree),
                mode: copy::Mode::Fresh,
                two_pass: source.running,
                totals: Some(self.totals),
            };
            let summary = copy::copy_tree(&request, report)?;
            summary.lost.iter().for_each(|path| self.descriptor.lose(path));
            for (path, why) in &summary.not_representable {
                report.warn(&format!("{}: {why}", path.display()));
            }
            for path in &summary.changed_during_copy {
                report.warn(&format!("{} changed while it was copied", path.display()));
            }
        }
        Ok(())
    }

    fn localize(&self, inventory: &Inventory, work: &Work, report: &mut dyn Report) -> Result<()> {
        let Some(source) = &self.source else { return Ok(()) };
        go_on()?;
        report.step("making the copy a system of its own");
        let devices: Vec<_> = self
            .layout
            .file_systems
            .iter()
            .map(|f| (f.device.clone(), self.uuids.get(&f.mountpoint).cloned()))
            .collect();
        let inside = Inside {
            root: &work.target,
            block_devices: &devices,
            esp: None,
            shared: &[],
            privileged: false,
            interactive: false,
        };
        let new_machine = self.request.new_machine.then(NewMachine::default);
        let change = Localization {
            id: self.descriptor.id,
            layout: &self.layout,
            uuids: &self.uuids,
            swap_uuids: &self.swap_uuids,
            labels: &prepare::labels(inventory, source),
            source_root: &source.root,
            new_machine: new_machine.as_ref(),
        };
        for done in localize::localize(&work.target, &change, &inside)? {
            log::info!("{done}");
        }
        for done in localize::install_program(&work.target, Path::new("/proc/self/exe"))? {
            log::info!("{done}");
        }
        Ok(())
    }
}

/// The folder where an operation mounts things, in its own mount namespace.
struct Work {
    folder: PathBuf,
    source: PathBuf,
    target: PathBuf,
    alone: PathBuf,
}

impl Work {
    fn new(system: &System) -> Result<Self> {
        let folder = system.run.join(format!("lifeboat/create-{}", std::process::id()));
        let [source, target, alone] = ["source", "target", "alone"].map(|name| folder.join(name));
        for place in [&source, &target, &alone] {
            std::fs::create_dir_all(place).at("making the folder", place)?;
        }
        Ok(Work { folder, source, target, alone })
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        for place in [&self.source, &self.target, &self.alone, &self.folder] {
            // Only empty folders go: one that is still mounted on stays for the next boot, /run being a tmpfs.
            let _ = std::fs::remove_dir(place);
        }
    }
}
