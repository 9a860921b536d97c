//! The decisions and checks of `be refresh` before anything is written.

use std::path::{Path, PathBuf};

use super::job::Job;
use super::request::RefreshRequest;
use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::environment::{BootEnvironment, Descriptor, Inventory, Operation, State};
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::layout::{self, MountPoint};
use crate::loader;
use crate::localize::identity;
use crate::populate::{self, source};
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::storage::device::BlockDevice;
use crate::storage::{mkfs, usage::Usage};
use crate::tree::measure::Totals;

impl<'a> Job<'a> {
    /// Decides everything and refuses what must be refused. Writes nothing.
    pub(super) fn prepare(session: &Session, request: &'a RefreshRequest) -> Result<Self> {
        let Session { host, inventory, .. } = session;
        let target = inventory.find(&request.target)?;
        let descriptor = refuse_target(target)?;
        // The entry that the scan found may be a vendor's, which leads to the BE and is not its own.
        let boot_entry = loader::for_environment(host, inventory, target)?.state()?.entry;
        let source = find_source(inventory, request, descriptor)?;
        if source.root == target.root {
            let (name, operation) = (target.name().into(), "refreshed from");
            return Err(Refusal::SourceIsTarget { name, operation }.into());
        }
        if let Some(descriptor) = &source.descriptor {
            descriptor.refuse_incomplete()?;
        }
        let esps: Vec<PathBuf> = inventory.devices.esps().map(|d| d.node.clone()).collect();
        let (layout, kept) = {
            let mounted =
                MountedEnvironment::mount_system(host, inventory, target, MountMode::ReadOnly)?;
            let root = RootDir::open(mounted.root())?;
            let has_content = |place: &Path| root.names(place).is_ok_and(|names| !names.is_empty());
            let placements = layout::placements_of(target, source, &esps, has_content)?;
            let layout = populate::lay_out(inventory, &source.file_systems, placements)?;
            let from = source::mount(session, source, &MountPoint::root())?;
            let from = RootDir::open(from.dir())?;
            (layout, identity::of_another_machine(&root, &from)?)
        };
        let mut job = Job {
            request,
            source: source.clone(),
            target: BootEnvironment { boot_entry, ..target.clone() },
            descriptor: descriptor.clone(),
            uuids: Default::default(),
            swap_uuids: own_swap(inventory, target),
            journals: Vec::new(),
            totals: Totals::default(),
            layout,
            kept,
            hooks: Hooks::of(source)?,
        };
        for file_system in &job.layout.file_systems {
            let uuid = refuse_device(
                host,
                inventory,
                &job.target,
                &file_system.provision.volume().device,
            )?;
            job.uuids.insert(file_system.mountpoint.clone(), uuid);
        }
        job.refuse_too_small(session)?;
        Ok(job)
    }

    /// Refuses a file system of the target that is too small for what will be in it. If everything
    /// on the source's file systems fits, the files are not counted.
    fn refuse_too_small(&mut self, session: &Session) -> Result<()> {
        populate::refuse_symlinks(session, &self.source, &self.layout)?;
        let copies = self.layout.copies();
        let sources: Vec<MountPoint> = copies.iter().map(|c| c.source.clone()).collect();
        self.journals = source::with_journals(session, &self.source, &sources)?;
        for file_system in &self.layout.file_systems {
            let size = file_system.provision.volume().device.size;
            let capacity = mkfs::capacity(file_system.fs_type.as_str(), size);
            let trees = || copies.iter().filter(|c| c.target == file_system.mountpoint);
            let mut needed = Totals::default();
            for tree in trees() {
                let mounted = source::mount(session, &self.source, &tree.source)?;
                let space = rustix::fs::statvfs(mounted.dir())
                    .at("reading the free space of", mounted.dir())?;
                needed.bytes += (space.f_blocks - space.f_bfree) * space.f_frsize;
                needed.files += space.f_files - space.f_ffree;
            }
            if needed.files == 0 || !capacity.holds(needed.bytes, needed.files) {
                let rules =
                    |tree: &_| populate::exclude(&self.source, &self.request.selection, tree);
                needed = populate::measure(session, &self.source, trees(), rules)?;
                populate::refuse_too_small(file_system, &capacity, needed)?;
            }
            self.totals.files += needed.files;
        }
        Ok(())
    }
}

/// Refuses a BE that cannot be refreshed. Returns its descriptor.
fn refuse_target(target: &BootEnvironment) -> Result<&Descriptor> {
    if target.running {
        let way_out = "boot another one first, or refresh another one from it".into();
        return Err(Refusal::Running { name: target.name().into(), way_out }.into());
    }
    if let Some(place) = target.mounted_at.first() {
        let (name, mountpoint) = (target.reference.clone(), place.display().to_string());
        return Err(Refusal::EnvironmentMounted { name, mountpoint }.into());
    }
    let Some(descriptor) = &target.descriptor else {
        let name = target.reference.clone();
        let way_out = format!("`be create --replace {name}` replaces it by a new one");
        return Err(Refusal::Unmanaged { name, way_out }.into());
    };
    target.refuse_hibernated()?;
    if target.root.subvolume.is_some() {
        let (name, device) = (target.reference.clone(), target.root.device.display().to_string());
        let way_out = "`be create` makes a new boot environment from its source".into();
        return Err(Refusal::Subvolume { name, device, way_out }.into());
    }
    match (descriptor.state, descriptor.operation) {
        (State::Incomplete, operation) if operation != Some(Operation::Refresh) => {
            descriptor.refuse_incomplete()?;
        }
        _ => {}
    }
    Ok(descriptor)
}

/// The source of the refresh: the BE that `--from` names, or the one that the target was copied
/// from. No other BE is tried, because what the source does not have is removed from the target.
fn find_source<'i>(
    inventory: &'i Inventory,
    request: &RefreshRequest,
    descriptor: &Descriptor,
) -> Result<&'i BootEnvironment> {
    if let Some(reference) = &request.from {
        return inventory.find(reference);
    }
    let known = descriptor.source.map(|id| id.to_string());
    let found = known.as_ref().filter(|id| {
        inventory
            .environments
            .iter()
            .any(|e| e.descriptor.as_ref().is_some_and(|d| d.id.to_string() == **id))
    });
    match found {
        Some(id) => inventory.find(id),
        None => Err(Error::SourceNotFound { target: descriptor.name.to_string() }),
    }
}

/// Refuses a device that is in use or that another BE uses. Returns the UUID of its file system.
fn refuse_device(
    host: &Host,
    inventory: &Inventory,
    target: &BootEnvironment,
    device: &BlockDevice,
) -> Result<String> {
    let node = &device.node;
    Usage::read(host)?.refuse_used(device)?;
    if let Some(other) =
        inventory.users_of_device(device).into_iter().find(|user| user.root != target.root)
    {
        let (device, other) = (node.display().to_string(), other.reference.clone());
        let way_out = "remove it from one of the two fstabs".into();
        return Err(Refusal::SharedDevice { device, other, way_out }.into());
    }
    let uuid = device.super_block().map(|s| s.uuid.clone()).filter(|uuid| !uuid.is_empty());
    uuid.ok_or_else(|| Error::NoUuid { device: node.display().to_string() })
}

/// Swap spaces that only this BE uses.
fn own_swap(inventory: &Inventory, target: &BootEnvironment) -> Vec<String> {
    let own = target.file_systems.iter().filter(|f| f.fs_type == "swap" && !f.shared);
    own.filter_map(|f| inventory.devices.uuid_on(f.device.as_deref()?)).collect()
}
