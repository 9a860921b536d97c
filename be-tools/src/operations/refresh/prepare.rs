//! The decisions and checks of `be refresh` before anything is written.

use std::path::{Path, PathBuf};

use super::job::Job;
use super::request::RefreshRequest;
use crate::environment::mounted::MountedEnvironment;
use crate::environment::{
    BootEnvironment, Descriptor, FileSystemUse, Inventory, Operation, Purpose, State,
};
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::layout::{Existing, MountPoint, Pair, Unproven};
use crate::loader::{self, Loader};
use crate::localize::identity;
use crate::operations::schedule;
use crate::populate::other_storage::{self, Crypttab};
use crate::populate::source_system::SourceSystem;
use crate::populate::{self, source};
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::session::lock::InProgress;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Holds;
use crate::storage::probe::Kind;
use crate::storage::{mkfs, usage::Usage};
use crate::tree::measure::Totals;

impl<'a> Job<'a> {
    /// Decides everything and refuses what must be refused. Writes nothing.
    pub(super) fn prepare(session: &Session, request: &'a RefreshRequest) -> Result<Self> {
        let Session { host, inventory, .. } = session;
        let target = inventory.find(&request.target)?;
        session.lock.note(InProgress::on("refresh", target));
        let descriptor = refuse_target(target)?;
        inventory.refuse_twin(target)?;
        refuse_changed(descriptor, request)?;
        // The entry that the scan found may be a vendor's, which leads to the BE and is not its own.
        let loader = loader::for_environment(host, inventory, target)?;
        let boot_entry = loader.state()?.entry;
        loader.prove_another_boots(&[])?;
        if !request.force {
            refuse_default(&*loader, target)?;
        }
        let source = find_source(inventory, request, descriptor)?;
        if source.root == target.root {
            let (name, operation) = (target.name().into(), "refreshed from");
            return Err(Refusal::SourceIsTarget { name, operation }.into());
        }
        if let Some(descriptor) = &source.descriptor {
            descriptor.refuse_incomplete()?;
        }
        let system = SourceSystem::read(session, source, loader.settings())?;
        if let (Some(_), Some(missing)) = (boot_entry, &system.missing) {
            let (name, missing) = (source.name().into(), missing.clone());
            return Err(Refusal::NoMenu { name, missing }.into());
        }
        let esps: Vec<PathBuf> = inventory.devices.esps().map(|d| d.node.clone()).collect();
        let (mut layout, kept, left) = {
            let mounted = MountedEnvironment::mount_system(host, inventory, target)?;
            let root = RootDir::open(mounted.root())?;
            let from = source::mount(session, source, &MountPoint::root())?;
            let from = RootDir::open(from.dir())?;
            let has = |root: &RootDir, place: &Path| root.names(place).is_ok_and(|n| !n.is_empty());
            let pair = Pair {
                target,
                target_has: &|place| has(&root, place),
                source,
                source_has: &|place| has(&from, place),
            };
            let say = Unproven { take_over: &request.take_over, keep: &request.keep };
            let Existing { placements, left } = pair.existing(&esps, say)?;
            // What is left as it is, is not copied to anywhere else either.
            let is_left = |f: &&FileSystemUse| left.iter().any(|l| l.as_path() == f.mountpoint);
            let lines: Vec<FileSystemUse> =
                source.file_systems.iter().filter(|f| !is_left(f)).cloned().collect();
            let layout = populate::lay_out(inventory, &lines, placements)?;
            (layout, identity::of_another_machine(&root, &from)?, left)
        };
        layout.left = left;
        if request.unattended {
            let copies = layout.copies();
            let mountpoints: Vec<&Path> = copies.iter().map(|copy| copy.source.as_path()).collect();
            let copied = schedule::Copied { source, mountpoints: &mountpoints };
            schedule::refuse_unattended(host, inventory, target, Some(copied))?;
        }
        let own = loader.settings().own_files().iter().map(|path| format!("/{path}"));
        let own_settings = std::iter::once("/etc/fstab".to_owned()).chain(own).collect();
        let mut job = Job {
            request,
            source: source.clone(),
            target: BootEnvironment { boot_entry, ..target.clone() },
            descriptor: descriptor.clone(),
            uuids: Default::default(),
            swap_uuids: own_swap(inventory, target),
            taken_over: Vec::new(),
            journals: Vec::new(),
            holds: Holds::default(),
            totals: Totals::default(),
            notes: Vec::new(),
            layout,
            own_settings,
            kept,
            hooks: Hooks::of(source)?,
            system,
        };
        let crypttabs = Crypttab::all(session, Some(&job.source))?;
        if !request.other_storage {
            other_storage::refuse(inventory, &job.source, &job.layout, &crypttabs)?;
        }
        for file_system in &job.layout.file_systems {
            let device = file_system.provision.base();
            let uuid = refuse_device(host, inventory, &job.target, device)?;
            other_storage::refuse_named(&inventory.devices, &crypttabs, device)?;
            job.uuids.insert(file_system.mountpoint.clone(), uuid);
        }
        job.take_over(&request.take_over)?;
        job.refuse_too_small(session)?;
        let filled = job.layout.file_systems.iter().map(|f| f.provision.base());
        job.holds = Holds::take(filled.chain(job.journals.iter().map(|device| &**device)))?;
        Ok(job)
    }

    /// Decides which file systems get the mark of the target, as the user wishes.
    fn take_over(&mut self, wanted: &[MountPoint]) -> Result<()> {
        for mountpoint in wanted {
            let Some(file_system) = self.layout.at(mountpoint).filter(|f| !f.mountpoint.is_root())
            else {
                return Err(Error::Usage(format!(
                    "--take-over {mountpoint}: '{}' has no file system of its own there; `be \
                    filesystems {}` shows those that it has",
                    self.descriptor.name, self.descriptor.name
                )));
            };
            let purpose = Purpose::FileSystem(mountpoint.as_path().to_owned());
            let marked = identity::uuid_for(self.descriptor.id, mountpoint, file_system.fs_type);
            let Some(marked) = marked.filter(|_| mkfs::can_set_uuid(file_system.fs_type.as_str()))
            else {
                return Err(Error::Usage(format!(
                    "--take-over {mountpoint}: a {} cannot be marked; leave it with --keep",
                    file_system.fs_type
                )));
            };
            if !self.descriptor.made.contains(&purpose) {
                self.descriptor.made.push(purpose);
            }
            if self.uuids.insert(mountpoint.clone(), marked.clone()) != Some(marked) {
                self.taken_over.push(mountpoint.clone());
            }
        }
        Ok(())
    }

    /// Refuses a file system of the target that is too small for what will be in it. If everything
    /// on the source's file systems fits, the files are not counted.
    fn refuse_too_small(&mut self, session: &Session) -> Result<()> {
        populate::refuse_symlinks(session, &self.source, &self.layout)?;
        let copies = self.layout.copies();
        let sources: Vec<MountPoint> = copies.iter().map(|c| c.source.clone()).collect();
        self.journals = source::with_journals(session, &self.source, &sources)?;
        let inventory = &session.inventory;
        self.notes.extend(source::notes_on_other_disks(inventory, &self.source, &sources)?);
        for file_system in &self.layout.file_systems {
            let size = file_system.provision.size();
            let capacity = mkfs::capacity(file_system.fs_type.as_str(), size);
            let trees = || copies.iter().filter(|c| c.target == file_system.mountpoint);
            let mut needed = Totals::default();
            for tree in trees() {
                let mounted = source::mount(session, &self.source, &tree.source)?;
                let space = rustix::fs::statvfs(mounted.dir())
                    .at("reading the free space of", mounted.dir())?;
                needed.bytes += (space.f_blocks - space.f_bfree) * space.f_frsize;
                needed.files += space.f_files - space.f_ffree;
                needed.inodes = needed.files;
            }
            if needed.files == 0 || !capacity.holds(needed.into()) {
                let rules = |tree: &_| {
                    populate::exclude(session.host, &self.source, &self.request.selection, tree)
                };
                let measured = populate::measure(session, &self.source, trees(), rules)?;
                self.notes.extend(populate::note_on_snapshots(&measured.snapshots));
                needed = measured.totals;
                populate::refuse_too_small(file_system, &capacity, needed)?;
            }
            self.totals.files += needed.files;
        }
        Ok(())
    }
}

/// Refuses a BE that cannot be refreshed. Returns its descriptor.
fn refuse_target(target: &BootEnvironment) -> Result<&Descriptor> {
    target.refuse_running("boot another one first, or refresh another one from it")?;
    target.refuse_mounted()?;
    let Some(descriptor) = &target.descriptor else {
        let name = target.reference.clone();
        let way_out = format!("`be create NAME --replace {name}` replaces it by a new one");
        return Err(Refusal::Unmanaged { name, way_out }.into());
    };
    target.refuse_hibernated()?;
    if target.root.subvolume.is_some() {
        let (name, device) = (target.reference.clone(), target.root.device.display().to_string());
        let way_out = "`be create` makes a new boot environment from its source".into();
        return Err(Refusal::Subvolume { name, device, way_out }.into());
    }
    match (descriptor.state, descriptor.operation) {
        (State::Incomplete, operation)
            if !matches!(
                operation,
                Some(Operation::Refresh | Operation::Repair | Operation::Upgrade | Operation::Run)
            ) =>
        {
            descriptor.refuse_incomplete()?;
        }
        _ => {}
    }
    Ok(descriptor)
}

/// Refuses a BE that has run, where no user sees in the plan what is lost.
fn refuse_changed(descriptor: &Descriptor, request: &RefreshRequest) -> Result<(), Refusal> {
    match descriptor.changed {
        Some(ran) if request.unattended && !request.force => {
            Err(Refusal::HasChanges { name: descriptor.name.to_string(), since: ran.to_string() })
        }
        _ => Ok(()),
    }
}

/// Refuses a BE that the machine starts by itself. What it holds may be newer than its source.
fn refuse_default(loader: &dyn Loader, target: &BootEnvironment) -> Result<()> {
    match loader.is_default()? {
        true => Err(Refusal::BootsByItself { name: target.name().into() }.into()),
        false => Ok(()),
    }
}

/// The source of the refresh: the BE that `--from` names, or the one that the target was copied
/// from. No other BE is tried, because what the source does not have is removed from the target.
/// Any disk may carry its id, so that one on a removable disk has to be named.
fn find_source<'i>(
    inventory: &'i Inventory,
    request: &RefreshRequest,
    descriptor: &Descriptor,
) -> Result<&'i BootEnvironment> {
    if let Some(reference) = &request.from {
        return inventory.find(reference);
    }
    let not_found = || Error::SourceNotFound { target: descriptor.name.to_string() };
    let source = match inventory.find_by_id(descriptor.source.ok_or_else(not_found)?) {
        Err(Error::Usage(_)) => return Err(not_found()),
        found => found?,
    };
    if !source.running && source.is_on_portable_disk(&inventory.devices) {
        let (name, device) = (source.reference.clone(), source.root.device.display().to_string());
        let way_out = format!("if that is the one to copy, name it with --from {name}");
        return Err(Refusal::OnRemovableDisk { name, device, way_out }.into());
    }
    Ok(source)
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
        let way_out =
            "remove it from one of the two fstabs, or leave it as it is with --keep".into();
        return Err(Refusal::SharedDevice { device, other, way_out }.into());
    }
    let uuid = device.super_block().map(|s| s.uuid.to_string()).filter(|uuid| !uuid.is_empty());
    uuid.ok_or_else(|| Error::NoUuid { device: node.display().to_string() })
}

/// The UUIDs of the swap spaces that only this BE uses. A line of fstab may name a device that has
/// become something else since.
fn own_swap(inventory: &Inventory, target: &BootEnvironment) -> Vec<String> {
    let own = target.file_systems.iter().filter(|f| f.fs_type == "swap" && !f.shared);
    let device = |f: &FileSystemUse| inventory.devices.by_node(f.device.as_deref()?);
    own.filter_map(device)
        .filter_map(|device| device.super_block())
        .filter(|found| matches!(found.kind, Kind::Swap | Kind::Hibernation))
        .map(|found| found.uuid.to_string())
        .filter(|uuid| !uuid.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::{Firmware, environment};
    use crate::storage::probe::SuperBlock;

    #[test]
    fn what_the_machine_starts_by_itself_is_not_replaced_by_an_older_system() {
        let (firmware, found) = (Firmware::new(), environment("second", "aaaa-02").complete());
        firmware.add("debian", r"\EFI\debian\shimx64.efi");
        let id = found.descriptor.as_ref().unwrap().id;
        let own = firmware.add("ours", &format!(r"\EFI\lifeboat\{}\grubx64.efi", id.short()));
        let (host, inventory) = (firmware.host(), Inventory::default());
        let loader = loader::for_environment(&host, &inventory, &found).unwrap();
        assert!(refuse_default(&*loader, &found).is_ok());
        firmware.entries().place(own, boot::efi::Position::First).unwrap();
        let refused = refuse_default(&*loader, &found).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::BootsByItself { .. })), "{refused}");
    }

    #[test]
    fn what_changed_in_a_boot_environment_that_ran_is_not_lost_unattended() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        descriptor.complete(&root).unwrap();
        let asked = |force, unattended| RefreshRequest { force, unattended, ..Default::default() };
        assert_eq!(refuse_changed(&descriptor, &asked(false, true)), Ok(()));
        descriptor.note_changed(&root).unwrap();
        let refused = refuse_changed(&descriptor, &asked(false, true)).unwrap_err();
        assert_eq!(refused.code(), "has-changes");
        assert!(
            refused.to_string().contains(&descriptor.changed.unwrap().to_string()),
            "{refused}"
        );
        assert_eq!(refuse_changed(&descriptor, &asked(true, true)), Ok(()));
        assert_eq!(refuse_changed(&descriptor, &asked(false, false)), Ok(()));
    }

    #[test]
    fn a_source_on_a_removable_disk_is_copied_only_if_it_is_named() {
        let mut source = environment("first", "aaaa-01").complete();
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        let refused = |source: &BootEnvironment, descriptor: &Descriptor, from: Option<&str>| {
            let mut device = BlockDevice::example("first", SuperBlock::new(Kind::Ext4));
            device.removable = true;
            let inventory = Inventory {
                environments: vec![source.clone()],
                devices: [device].into_iter().collect(),
                ..Inventory::default()
            };
            let request =
                RefreshRequest { from: from.map(str::to_owned), ..RefreshRequest::default() };
            match find_source(&inventory, &request, descriptor) {
                Ok(_) => None,
                Err(Error::Refused(refusal)) => Some(refusal.code()),
                Err(Error::SourceNotFound { .. }) => Some("not found"),
                Err(other) => panic!("{other}"),
            }
        };
        assert_eq!(refused(&source, &descriptor, None), Some("not found"));
        descriptor.source = source.descriptor.as_ref().map(|d| d.id);
        assert_eq!(refused(&source, &descriptor, None), Some("on-removable-disk"));
        assert_eq!(refused(&source, &descriptor, Some("first")), None);
        source.running = true;
        assert_eq!(refused(&source, &descriptor, None), None, "the running system is no stranger");
    }

    #[test]
    fn only_real_swap_is_resumed_from() {
        let mut target = environment("second", "aaaa-02");
        let swap = FileSystemUse::example("none", "/dev/sdb1");
        target.file_systems.push(FileSystemUse { fs_type: "swap".into(), ..swap });
        let swap_on = |kind: Kind, uuid: &str| {
            let found = SuperBlock { uuid: uuid.into(), ..SuperBlock::new(kind) };
            let device = BlockDevice::example("sdb1", found);
            let inventory =
                Inventory { devices: [device].into_iter().collect(), ..Inventory::default() };
            own_swap(&inventory, &target)
        };
        assert_eq!(swap_on(Kind::Swap, "7777"), ["7777"]);
        assert_eq!(swap_on(Kind::Hibernation, "7777"), ["7777"]);
        for kind in [Kind::Luks1, Kind::Luks2, Kind::Lvm, Kind::Ext4] {
            assert!(swap_on(kind, "7777").is_empty(), "{kind:?}");
        }
        assert!(swap_on(Kind::Swap, "").is_empty());
    }
}
