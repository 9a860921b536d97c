//! The decisions and checks of `be create` before anything is written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::job::Job;
use super::request::CreateRequest;
use super::target;
use crate::environment::NOT_MOUNTED;
use crate::environment::{
    BootEnvironment, Descriptor, Inventory, Operation, Problem, Purpose, Root, State,
};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::layout::{self, Layout, MountPoint, PlacementKind};
use crate::loader;
use crate::localize::identity;
use crate::operations::adopt::Adoption;
use crate::operations::delete::{self, Deletion};
use crate::populate::other_storage::{self, Crypttab};
use crate::populate::source_system::SourceSystem;
use crate::populate::{self, source};
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::session::lock::InProgress;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Holds;
use crate::storage::mkfs;
use crate::storage::provision::Provision;
use crate::tree::measure::{Measured, Totals};

impl<'a> Job<'a> {
    /// Decides everything and refuses what must be refused. Writes nothing.
    pub(super) fn prepare(session: &Session, request: &'a CreateRequest) -> Result<Self> {
        let Session { host, inventory, .. } = session;
        let note = |id| {
            let (verb, reference) = ("create".into(), request.name.to_string());
            session.lock.note(InProgress { verb, id, reference });
        };
        note(None);
        request.refuse_method()?;
        let source = find_source(inventory, request)?;
        let preparation = Preparation { inventory, request, source: source.as_ref() };
        let replaced = preparation.replaced()?;
        match &replaced {
            Some(old) if old.descriptor.as_ref().is_some_and(|d| d.name == request.name) => {}
            _ => inventory.refuse_taken(&request.name)?,
        }
        if let Some(old) = &replaced {
            refuse_unbootable(host, inventory, old)?;
        }
        let adoption = preparation.adoption()?;
        let layout = preparation.layout(replaced.as_ref())?;
        let provisions = layout.file_systems.iter().map(|f| &f.provision).chain(&layout.swap);
        let crypttabs = Crypttab::all(session, source.as_ref())?;
        let wanted = target::TargetRequest {
            source: source.as_ref(),
            replaced: replaced.as_ref(),
            force: request.force,
        };
        for provision in provisions {
            let device = provision.base();
            target::refuse(host, inventory, device, &wanted)?;
            other_storage::refuse_named(&inventory.devices, &crypttabs, device)?;
        }
        if let Some(found) = source.as_ref().filter(|_| !request.other_storage) {
            other_storage::refuse(inventory, found, &layout, &crypttabs)?;
        }

        let mut descriptor = Descriptor::new(request.name.clone(), None);
        descriptor.description.clone_from(&request.description);
        let known = || source.as_ref().and_then(|s| s.descriptor.as_ref()).map(|d| d.id);
        descriptor.source = adoption.as_ref().map(Adoption::id).or_else(known);
        descriptor.shared = layout.shared.iter().map(|m| m.as_path().to_owned()).collect();
        let id = descriptor.id;
        note(Some(id));
        let uuids: BTreeMap<_, _> = layout
            .file_systems
            .iter()
            .filter_map(|f| {
                let uuid = identity::uuid_for(id, &f.mountpoint, f.fs_type)?;
                Some((f.mountpoint.clone(), uuid))
            })
            .collect();
        let swap: Vec<_> = (0..).map(Purpose::Swap).take(layout.swap.len()).collect();
        let swap_uuids: Vec<_> =
            swap.iter().filter_map(|swap| Some(swap.uuid(id)?.to_string())).collect();
        let mounted = layout.file_systems.iter().map(|f| f.mountpoint.as_path().to_owned());
        if let Some(old) = replaced.as_ref().and_then(|old| old.descriptor.as_ref()) {
            descriptor.replaces = std::iter::once(&old.id).chain(&old.replaces).copied().collect();
        }
        descriptor.made = mounted.map(Purpose::FileSystem).chain(swap).collect();
        let target = as_found(inventory, &layout, &uuids, source.as_ref(), &descriptor)?;
        let hooks = source.as_ref().map(Hooks::of).transpose()?.unwrap_or_default();
        let mut job = Job {
            request,
            source,
            adoption,
            replaced,
            layout,
            uuids,
            swap_uuids,
            journals: Vec::new(),
            holds: Holds::default(),
            blocks: BTreeMap::new(),
            totals: Totals::default(),
            notes: Vec::new(),
            hooks,
            system: SourceSystem::default(),
            target,
            descriptor,
        };
        if job.is_bootable() {
            job.notes = job.prove_loader(host, inventory).map_err(offer_no_boot_entry)?;
        }
        job.examine_source(session)?;
        job.choose_blocks(session)?;
        job.refuse_too_small(session)?;
        job.holds = Holds::take(job.written())?;
        Ok(job)
    }

    /// The devices that will be written to.
    fn written(&self) -> impl Iterator<Item = &BlockDevice> {
        let provisions = self.layout.file_systems.iter().map(|f| &f.provision);
        let made = provisions.chain(&self.layout.swap).map(Provision::base);
        made.chain(self.journals.iter().map(|device| &**device))
    }

    /// Checks that the target can get a loader and a boot entry. Returns notes for the plan.
    fn prove_loader(&self, host: &Host, inventory: &Inventory) -> Result<Vec<String>> {
        let loader = loader::for_environment(host, inventory, &self.target)?;
        loader.prove(self.source.as_ref().unwrap_or(&self.target))
    }

    /// Finds out how the source boots, and whether its copy can be given a boot menu. Without a
    /// boot entry here, a menu that cannot be made is only noted.
    fn examine_source(&mut self, session: &Session) -> Result<()> {
        let Some(found) = &self.source else { return Ok(()) };
        let loader = loader::for_environment(session.host, &session.inventory, &self.target)?;
        self.system = SourceSystem::read(session, found, loader.settings())?;
        let name = self.source_name().to_owned();
        if self.is_bootable() {
            let lacks_menu = self.system.missing.clone();
            if let Some(missing) = lacks_menu {
                return Err(offer_no_boot_entry(Refusal::NoMenu { name, missing }.into()));
            }
            if !self.system.has_systemd {
                return Err(offer_no_boot_entry(Refusal::NoSystemd { name }.into()));
            }
        } else if let Some(missing) = &self.system.missing {
            self.notes
                .push(format!("'{name}' lacks {missing}: the copy gets no boot menu of its own"));
        }
        Ok(())
    }

    /// Refuses a file system of the target that is too small for what is copied to it.
    fn refuse_too_small(&mut self, session: &Session) -> Result<()> {
        let Some(found) = &self.source else { return Ok(()) };
        populate::refuse_symlinks(session, found, &self.layout)?;
        let copies = self.layout.copies();
        let sources: Vec<MountPoint> = copies.iter().map(|c| c.source.clone()).collect();
        self.journals = source::with_journals(session, found, &sources)?;
        self.notes.extend(source::notes_on_other_disks(&session.inventory, found, &sources)?);
        for file_system in &self.layout.file_systems {
            if self.blocks.contains_key(&file_system.mountpoint) {
                continue;
            }
            let trees = copies.iter().filter(|c| c.target == file_system.mountpoint);
            let rules =
                |tree: &_| populate::exclude(session.host, found, &self.request.selection, tree);
            let Measured { totals, snapshots } = populate::measure(session, found, trees, rules)?;
            let size = file_system.provision.size();
            let capacity = mkfs::capacity(file_system.fs_type.as_str(), size);
            populate::refuse_too_small(file_system, &capacity, totals)?;
            self.totals += totals;
            self.notes.extend(populate::note_on_snapshots(&snapshots));
        }
        Ok(())
    }
}

/// Adds --no-boot-entry to a refusal of the loader: without a boot entry, no loader is needed here.
fn offer_no_boot_entry(error: Error) -> Error {
    match error {
        Error::Refused(why) => Refusal::NotBootableHere(Box::new(why)).into(),
        other => other,
    }
}

/// Refuses to replace a BE after which the machine would start nothing, or what is gone. If no loader
/// can start the old one, what leads to it starts nothing as it is.
fn refuse_unbootable(host: &Host, inventory: &Inventory, old: &BootEnvironment) -> Result<()> {
    let loader = loader::for_environment(host, inventory, old)?;
    let holds = Holds::default();
    let deletion = Deletion { host, inventory, environment: old, holds: &holds, before: &[] };
    let gone = deletion.removed_entries(&*loader)?;
    match deletion.refuse_unbootable(&*loader, &gone) {
        Err(Error::Refused(Refusal::ForeignEntryStartsIt { .. }))
            if old.problems.iter().any(Problem::keeps_from_starting)
                && !old.problems.iter().any(|problem| problem.code == NOT_MOUNTED) =>
        {
            Ok(())
        }
        result => result,
    }
}

/// The BE to copy, or `None` for an empty BE.
fn find_source(inventory: &Inventory, request: &CreateRequest) -> Result<Option<BootEnvironment>> {
    if request.empty {
        return Ok(None);
    }
    let source = match &request.from {
        Some(reference) => inventory.find(reference)?,
        None => inventory.running().ok_or_else(|| {
            Error::Usage(
                "the running system is not a boot environment: name the one to copy with --from BE"
                    .into(),
            )
        })?,
    };
    if let Some(descriptor) = source.descriptor.as_ref().filter(|_| !Adoption::is_due(source)) {
        descriptor.refuse_incomplete()?;
    }
    Ok(Some(source.clone()))
}

/// What the parts of the preparation need: the inventory, the request, and the BE to copy.
#[derive(Clone, Copy)]
struct Preparation<'a> {
    inventory: &'a Inventory,
    request: &'a CreateRequest,
    source: Option<&'a BootEnvironment>,
}

impl Preparation<'_> {
    /// The BE whose devices become the target: the one that `--replace` names, or the new BE itself
    /// if an earlier `be create` on the same root device was interrupted.
    fn replaced(&self) -> Result<Option<BootEnvironment>> {
        let Preparation { inventory, request, source } = *self;
        let found = match &request.replace {
            Some(reference) => Some(inventory.find(reference)?),
            None => inventory.environments.iter().find(|e| is_interrupted_create(e, request)),
        };
        let Some(old) = found else { return Ok(None) };
        if request.replace.is_none() && !self.is_placed_on(old) {
            let (name, device) = (old.name().into(), old.root.device.display().to_string());
            return Err(Refusal::InterruptedCreate { name, device }.into());
        }
        if source.is_some_and(|s| s.root == old.root) {
            let (name, operation) = (old.name().into(), "replaced by a copy of");
            return Err(Refusal::SourceIsTarget { name, operation }.into());
        }
        delete::refuse(old, request.force)?;
        Ok(Some(old.clone()))
    }

    /// Whether the `-m` arguments put the new root on the root of `old`. The name alone is not
    /// enough: a stranger's disk may have an interrupted create of that name.
    fn is_placed_on(&self, old: &BootEnvironment) -> bool {
        self.request.placements.iter().any(|placement| match &placement.kind {
            PlacementKind::FileSystem { mountpoint, device, .. } if mountpoint.is_root() => {
                let found = self.inventory.devices.lookup(device);
                matches!(found[..], [one] if one.node == old.root.device)
            }
            _ => false,
        })
    }

    /// The adoption of the source, if it is the running system and not a BE yet.
    fn adoption(&self) -> Result<Option<Adoption>> {
        let Preparation { inventory, request, source } = *self;
        match source {
            Some(running) if running.running && Adoption::is_due(running) => {
                let adoption = Adoption::prepare(inventory, running, request.current.clone())?;
                if *adoption.name() == request.name {
                    return Err(Error::Usage(format!(
                        "the running system would get the name '{}' too: give it another one with \
                        --current NAME",
                        request.name
                    )));
                }
                Ok(Some(adoption))
            }
            _ if request.current.is_some() => Err(Error::Usage(
                "the source is not a running system that has to be adopted: leave --current out"
                    .into(),
            )),
            _ => Ok(None),
        }
    }

    /// The layout of the target: that of the `-m` arguments, or of the replaced BE.
    fn layout(&self, replaced: Option<&BootEnvironment>) -> Result<Layout> {
        let Preparation { inventory, request, source } = *self;
        let placements = match replaced {
            Some(old) if request.placements.is_empty() => {
                let esps: Vec<PathBuf> = inventory.devices.esps().map(|d| d.node.clone()).collect();
                let fs_type_of = |node: &Path| {
                    let found = inventory.devices.by_node(node)?.content.kind()?;
                    Some(found.name().to_owned())
                };
                layout::placements_replacing(old, &esps, fs_type_of)?
            }
            _ => request.placements.clone(),
        };
        let source = source.map_or(&[][..], |s| s.file_systems.as_slice());
        populate::lay_out(inventory, source, placements)
    }
}

fn is_interrupted_create(environment: &BootEnvironment, request: &CreateRequest) -> bool {
    environment.descriptor.as_ref().is_some_and(|d| {
        d.name == request.name
            && d.state == State::Incomplete
            && d.operation == Some(Operation::Create)
    }) && !environment.running
}

/// The new BE as discovery will find it. The loader is written before that.
fn as_found(
    inventory: &Inventory,
    layout: &Layout,
    uuids: &BTreeMap<MountPoint, String>,
    source: Option<&BootEnvironment>,
    descriptor: &Descriptor,
) -> Result<BootEnvironment> {
    let (Some(root), Some(uuid)) = (layout.file_systems.first(), uuids.get(&MountPoint::root()))
    else {
        return Err(Error::Usage(
            "the root file system needs a device: give -m /:DEVICE:FSTYPE".into(),
        ));
    };
    let node = root.node();
    let mut target = source.cloned().unwrap_or_else(|| BootEnvironment::empty(node));
    target.reference = descriptor.name.to_string();
    target.root = Root {
        device: node.to_owned(),
        fs_type: root.fs_type.to_string(),
        uuid: uuid.clone(),
        subvolume: None,
        disk: inventory.devices.disk_of(root.provision.base()).node.clone(),
    };
    target.descriptor = Some(descriptor.clone());
    target.running = false;
    target.next_boot = false;
    target.boot_entry = None;
    target.mounted_at.clear();
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::environment;
    use crate::operations::create::request::Method;
    use crate::storage::device::BlockDevice;
    use crate::storage::probe::{Kind, SuperBlock};
    use crate::tree::exclude::Selection;

    fn request(name: &str, replace: Option<&str>, force: bool) -> CreateRequest {
        CreateRequest {
            name: name.parse().unwrap(),
            from: None,
            empty: true,
            placements: Vec::new(),
            replace: replace.map(str::to_owned),
            method: Method::Auto,
            selection: Selection::default(),
            description: String::new(),
            current: None,
            new_machine: false,
            boot_entry: true,
            other_storage: false,
            force,
        }
    }

    #[test]
    fn a_refusal_of_the_loader_offers_a_copy_without_a_boot_entry() {
        let said = offer_no_boot_entry(Refusal::SecureBoot.into()).to_string();
        assert!(said.contains("firmware setup, or use --no-boot-entry"), "{said}");
        assert_eq!(offer_no_boot_entry(Error::Interrupted).exit_status(), 130);
        for refusal in [Refusal::SecureBoot, Refusal::NoFirmwareVariables] {
            assert!(!refusal.to_string().contains("--no-boot-entry"), "{refusal}");
        }
    }

    #[test]
    fn an_unmanaged_system_is_replaced_only_with_force() {
        let mut second = environment("second", "aaaa-02");
        let found = |old: &BootEnvironment, request: &CreateRequest| {
            let device = BlockDevice::example("second", SuperBlock::new(Kind::Ext4));
            let inventory = Inventory {
                environments: vec![old.clone()],
                devices: [device].into_iter().collect(),
                ..Inventory::default()
            };
            let preparation = Preparation { inventory: &inventory, request, source: None };
            preparation.replaced().map(|found| found.is_some())
        };
        let refused = found(&second, &request("third", Some("@second"), false)).unwrap_err();
        let is_unmanaged = matches!(refused, Error::Refused(Refusal::NotMadeByLifeboat { .. }));
        assert!(is_unmanaged, "{refused}");
        assert!(found(&second, &request("third", Some("@second"), true)).unwrap());
        // An interrupted create is run again as it was, on its own root device.
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        second.descriptor = Some(descriptor.clone());
        let mut again = request("second", None, false);
        for (placements, is_taken) in [
            (&[][..], false),
            (&["/:/dev/other:ext4"], false),
            (&["/var:/dev/second:ext4"], false),
            (&["/:/dev/second:ext4"], true),
        ] {
            again.placements = placements.iter().map(|text| text.parse().unwrap()).collect();
            match found(&second, &again) {
                Ok(found) => assert!(found && is_taken, "{placements:?}"),
                Err(Error::Refused(Refusal::InterruptedCreate { .. })) => assert!(!is_taken),
                Err(other) => panic!("{other}"),
            }
        }
        (descriptor.state, descriptor.operation) = (State::Complete, None);
        second.descriptor = Some(descriptor);
        assert!(!found(&second, &request("second", None, false)).unwrap());
        assert!(found(&second, &request("third", Some("second"), false)).unwrap());
    }
}
