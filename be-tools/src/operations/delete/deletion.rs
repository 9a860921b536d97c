//! The removal of one BE: what must be refused, and the steps.

use std::fmt::{Display, Formatter};

use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::environment::{BootEnvironment, Descriptor, Inventory, Operation, State};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::loader::{self, AllEntries, Loader, LoaderStep};
use crate::operations::schedule::{self, Schedule};
use crate::plan::Report;
use crate::root_dir::RootDir;
use crate::step;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Holds;
use crate::storage::mkfs;
use crate::storage::usage::Usage;

/// A step that removes a BE.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// Marks the BE as incomplete. One that is full or too damaged for that is deleted anyway.
    Mark(&'a Descriptor),
    /// Removes the timer that would change it.
    Unschedule(Box<Schedule>),
    /// Removes what points at the BE.
    RemoveReference(LoaderStep<'a>),
    /// Erases the content of the device.
    Erase(&'a BlockDevice),
}

/// The removal of a BE.
#[derive(Clone, Copy)]
pub(crate) struct Deletion<'a> {
    pub(crate) host: &'a Host,
    pub(crate) inventory: &'a Inventory,
    pub(crate) environment: &'a BootEnvironment,
    /// The devices that the plan names.
    pub(crate) holds: &'a Holds,
    /// Those that the same plan has deleted by then.
    pub(crate) before: &'a [&'a BootEnvironment],
}

impl<'a> Deletion<'a> {
    /// Another one with the same id, which is left.
    pub(super) fn twin(&self) -> Option<&'a BootEnvironment> {
        self.twins().next()
    }

    fn twins(&self) -> impl Iterator<Item = &'a BootEnvironment> {
        self.inventory.twins_of(self.environment).filter(|twin| !self.is_gone(twin))
    }

    /// Whether a twin stays here that the entry and the loader start, which are kept for it.
    fn is_kept_for_twin(&self) -> Result<bool> {
        let Deletion { host, inventory, .. } = self;
        for twin in self.twins().filter(|twin| self.stays(twin)) {
            if twin.running || loader::for_environment(host, inventory, twin)?.leads_here()? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether another one can be started here afterwards, as far as is known.
    fn stays(&self, other: &BootEnvironment) -> bool {
        other.running || other.is_whole() && !other.is_on_portable_disk(&self.inventory.devices)
    }

    fn is_gone(&self, other: &BootEnvironment) -> bool {
        self.before.iter().any(|gone| gone.root == other.root)
    }

    /// The boot entries that it removes.
    ///
    /// # Errors
    /// The present boot entries cannot be read.
    pub(crate) fn removed_entries(&self, loader: &dyn Loader) -> Result<Vec<u16>> {
        match self.environment.is_managed() && self.twin().is_none() {
            true => loader.removed_entries(),
            false => Ok(Vec::new()),
        }
    }

    /// Refuses a removal after which the machine would start nothing, or what is gone. The plan
    /// removes the entries `gone`, those of the BE among them.
    ///
    /// # Errors
    /// [`Refusal::OnlyBootable`], [`Refusal::KeptStartsFirst`], [`Refusal::ForeignEntryStartsIt`]
    pub(crate) fn refuse_unbootable(&self, loader: &dyn Loader, gone: &[u16]) -> Result<()> {
        let Deletion { host, inventory, environment, .. } = self;
        if !self.is_kept_for_twin()? {
            loader.prove_another_boots(gone)?;
            loader.refuse_kept_first(gone)?;
        }
        // A block copy that stays here has the same UUIDs, and is what that entry starts then.
        let left = inventory.environments.iter().filter(|other| {
            other.root != environment.root
                && other.root.uuid == environment.root.uuid
                && !self.is_gone(other)
                && self.stays(other)
        });
        match AllEntries::of(host, &inventory.devices) {
            Some(entries) => entries.refuse_foreign_first(environment, left, gone),
            None => Ok(()),
        }
    }

    /// Refuses devices that the running system or another BE uses: a fstab can name such devices.
    pub(super) fn refuse_in_use(&self, devices: &[&BlockDevice]) -> Result<()> {
        let Deletion { host, inventory, environment, .. } = self;
        let usage = Usage::read(host)?;
        for device in devices {
            usage.refuse_used(device)?;
            let users = inventory.users_of_device(device);
            if let Some(other) =
                users.into_iter().find(|user| user.root != environment.root && !self.is_gone(user))
            {
                let (device, other) = (device.node.display().to_string(), other.reference.clone());
                let way_out = format!("delete '{other}' first, or remove {device} from its fstab");
                return Err(Refusal::SharedDevice { device, other, way_out }.into());
            }
        }
        Ok(())
    }

    /// The steps that mark the BE and remove everything that points at it, so that its devices can
    /// be erased. They can be run again.
    ///
    /// # Errors
    /// What points at the BE, or is scheduled for it, cannot be read.
    pub(crate) fn steps(&self, loader: &'a dyn Loader) -> Result<Vec<Step<'a>>> {
        let Some(descriptor) = &self.environment.descriptor else { return Ok(Vec::new()) };
        let mut steps = Vec::new();
        // A BE that was never complete is already marked, and its `be create` can be run again.
        let is_marked = (descriptor.state, descriptor.operation)
            == (State::Incomplete, Some(Operation::Create));
        if !is_marked {
            steps.push(Step::Mark(descriptor));
        }
        if self.twin().is_none() {
            steps.extend(
                schedule::of(self.host, self.environment)?
                    .map(|found| Step::Unschedule(Box::new(found))),
            );
            steps.extend(loader.remove()?.into_iter().map(Step::RemoveReference));
        }
        Ok(steps)
    }

    /// The notes of a plan on what the steps do not remove.
    pub(crate) fn notes(&self) -> Vec<String> {
        let Deletion { host, inventory, environment, .. } = self;
        if environment.descriptor.is_none() {
            return Vec::new();
        }
        if let Some(twin) = self.twin() {
            return vec![format!(
                "the boot entry, the loader and a schedule are kept for '{}', which has the same id",
                twin.reference
            )];
        }
        let may_have_entry = inventory.devices.esps().next().is_some();
        if !may_have_entry || loader::firmware::boot_entries(host).is_ok() {
            let kept = loader::for_environment(host, inventory, environment)
                .and_then(|loader| loader.kept_by_removal());
            return kept.unwrap_or_else(|why| vec![why.to_string()]);
        }
        vec![format!(
            "the firmware's variables cannot be read here: if '{}' has a boot entry, it is not \
            removed, but no longer starts anything; `be boot-entries remove` removes it",
            environment.name()
        )]
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Mark(descriptor) => {
                write!(f, "mark '{}' as incomplete (delete)", descriptor.name)
            }
            Step::Unschedule(found) => f.write_str(&schedule::removal(found)),
            Step::RemoveReference(step) => step.fmt(f),
            Step::Erase(device) => {
                write!(f, "erase the file system signature on {}", device.node.display())
            }
        }
    }
}

impl step::Step<Deletion<'_>> for Step<'_> {
    fn run(&self, deletion: &mut Deletion, report: &mut dyn Report) -> Result<()> {
        let Deletion { host, inventory, environment, holds, .. } = *deletion;
        match self {
            Step::Mark(descriptor) => {
                let mode = MountMode::ReadWrite;
                let device = &environment.root.device;
                if let Some(hold) = inventory.devices.by_node(device).and_then(|d| holds.find(d)) {
                    hold.release();
                }
                let marked = MountedEnvironment::mount_root(host, inventory, environment, mode)
                    .and_then(|mounted| {
                        let root = RootDir::open(mounted.root())?;
                        descriptor.refuse_other(&root, device)?;
                        (*descriptor).clone().begin(Operation::Delete, &root)
                    });
                if let Err(why) = marked {
                    let name = &descriptor.name;
                    report.warn(&format!("'{name}' could not be marked as incomplete: {why}"));
                }
                Ok(())
            }
            Step::Unschedule(found) => schedule::remove(host, found),
            Step::RemoveReference(step) => step.run(),
            Step::Erase(device) => mkfs::wipe(holds.of(device)?),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::path::Path;

    use super::super::to_erase;
    use super::*;
    use crate::environment;
    use crate::error::Error;
    use crate::loader::testing::Firmware;
    use crate::plan::testing::Recorder;
    use crate::storage::partitions::{PartitionInfo, PartitionType};
    use crate::storage::probe::{Kind, SuperBlock};

    pub(in crate::operations::delete) fn environment(node: &str) -> BootEnvironment {
        let mut found = BootEnvironment::empty(Path::new(node));
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        (descriptor.state, descriptor.operation) = (environment::State::Complete, None);
        found.descriptor = Some(descriptor);
        found
    }

    /// The only deletion of its plan.
    fn alone<'a>(
        host: &'a Host,
        inventory: &'a Inventory,
        environment: &'a BootEnvironment,
        holds: &'a Holds,
    ) -> Deletion<'a> {
        Deletion { host, inventory, environment, holds, before: &[] }
    }

    /// A machine with two disks and these BEs.
    pub(in crate::operations::delete) fn inventory(environments: &[&BootEnvironment]) -> Inventory {
        let device = |name| BlockDevice::example(name, SuperBlock::new(Kind::Ext4));
        Inventory {
            environments: environments.iter().map(|found| (*found).clone()).collect(),
            devices: ["lifeboat-none1", "lifeboat-none2"].into_iter().map(device).collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn a_device_with_another_boot_environment_is_not_erased() {
        let second = environment("/dev/lifeboat-none1");
        let mut other = environment("/dev/lifeboat-none1");
        other.root.subvolume = Some("@other".into());
        let mut inventory = inventory(&[&second]);
        let host = Host::local();
        let holds = Holds::default();
        let refused = |inventory: &Inventory| {
            let deletion = alone(&host, inventory, &second, &holds);
            deletion.refuse_in_use(&to_erase(inventory, &second).unwrap())
        };
        assert!(refused(&inventory).is_ok());
        inventory.environments.push(other);
        let refusal = refused(&inventory).unwrap_err();
        assert!(matches!(refusal, Error::Refused(Refusal::SharedDevice { .. })), "{refusal}");
    }

    #[test]
    fn an_entry_that_cannot_be_seen_is_noted_unless_it_is_a_twins() {
        let mut esp = BlockDevice::example("lifeboat-none8", SuperBlock::new(Kind::Vfat));
        esp.partition = Some(PartitionInfo {
            number: 1,
            start_lba: 2048,
            size_lba: 2048,
            logical_block_size: 512,
            kind: Some(PartitionType::Mbr(0xef)),
            part_uuid: String::new(),
            name: String::new(),
        });
        let (mut second, firmware) = (environment("/dev/lifeboat-none1"), Firmware::new());
        let mut inventory =
            Inventory { devices: [esp].into_iter().collect(), ..Inventory::default() };
        inventory.environments = vec![second.clone()];
        let notes = |host: &Host, inventory: &Inventory, environment: &BootEnvironment| {
            alone(host, inventory, environment, &Holds::default()).notes()
        };
        let elsewhere = Host { sys: "/lifeboat-none".into(), ..firmware.host() };
        let said = notes(&elsewhere, &inventory, &second).join("\n");
        assert!(
            said.contains("variables cannot be read here") && said.contains("'second'"),
            "{said}"
        );
        assert!(notes(&firmware.host(), &inventory, &second).is_empty());
        let mut twin = second.clone();
        twin.root.device = "/dev/lifeboat-none2".into();
        inventory.environments.push(twin);
        let said = notes(&elsewhere, &inventory, &second).join("\n");
        assert!(said.contains("which has the same id"), "{said}");
        second.descriptor = None;
        assert!(notes(&elsewhere, &inventory, &second).is_empty());
    }

    #[test]
    fn a_block_copy_leaves_the_boot_entry_to_its_twin() {
        let second = environment("/dev/lifeboat-none1");
        let mut inventory =
            Inventory { environments: vec![second.clone()], ..Inventory::default() };
        let firmware = Firmware::new();
        let host = firmware.host();
        let lines = |inventory: &Inventory| {
            let loader = loader::for_environment(&host, inventory, &second).unwrap();
            let holds = Holds::default();
            let deletion = alone(&host, inventory, &second, &holds);
            step::lines(&deletion.steps(&*loader).unwrap())
        };
        assert_eq!(lines(&inventory).len(), 2);
        let mut twin = second.clone();
        twin.root.device = "/dev/lifeboat-none2".into();
        inventory.environments.push(twin);
        assert_eq!(lines(&inventory), ["mark 'second' as incomplete (delete)"]);
    }

    #[test]
    fn its_boot_entry_is_removed_as_the_plan_says() {
        let firmware = Firmware::new();
        let mut second = environment("/dev/lifeboat-none1");
        let id = second.descriptor.as_ref().unwrap().id;
        let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
        let file = format!(r"\EFI\lifeboat\{}\grubx64.efi", id.short());
        second.boot_entry = Some(firmware.add("Lifeboat: second", &file));
        let host = firmware.host();
        let inventory = Inventory { devices: firmware.devices(), ..Inventory::default() };
        let loader = loader::for_environment(&host, &inventory, &second).unwrap();
        let holds = Holds::default();
        let mut deletion = alone(&host, &inventory, &second, &holds);
        let steps = deletion.steps(&*loader).unwrap();
        let mut recorder = Recorder::default();
        step::run_all(&steps, &mut deletion, &mut recorder).unwrap();
        assert_eq!(recorder.steps, step::lines(&steps));
        assert!(recorder.steps[1].starts_with("remove 0001 from BootNext"), "{:?}", recorder.steps);
        assert_eq!(firmware.entries().order().unwrap(), [debian]);
        // Its device does not exist, which is only a warning.
        assert_eq!(recorder.warnings.len(), 1);
    }

    #[test]
    fn an_entry_of_which_it_is_not_known_what_it_starts_is_left_and_noted() {
        let firmware = Firmware::new();
        firmware.add("debian", r"\EFI\debian\shimx64.efi");
        let second = environment("/dev/lifeboat-none1");
        let id = second.descriptor.as_ref().unwrap().id;
        let number =
            firmware.add("Lifeboat: second", &format!(r"\EFI\lifeboat\{}\grubx64.efi", id.short()));
        // The disk with its ESP is not here.
        let (host, inventory) = (firmware.host(), Inventory::default());
        let loader = loader::for_environment(&host, &inventory, &second).unwrap();
        let holds = Holds::default();
        let deletion = alone(&host, &inventory, &second, &holds);
        let lines = step::lines(&deletion.steps(&*loader).unwrap());
        assert!(!lines.iter().any(|line| line.contains("BootOrder")), "{lines:?}");
        let [note] = deletion.notes().try_into().unwrap();
        assert!(note.starts_with(&format!("Boot{number:04X} is not removed")), "{note}");
        assert!(note.contains(&format!("be boot-entries remove {number:04X}")), "{note}");
    }

    #[test]
    fn what_is_scheduled_for_it_goes_with_it_as_the_plan_says() {
        let firmware = Firmware::new();
        let (host, inventory) = (firmware.host(), Inventory::default());
        let [second, third] = ["/dev/lifeboat-none1", "/dev/lifeboat-none2"].map(environment);
        let root = RootDir::open(&host.root).unwrap();
        for found in [&second, &third] {
            let id = found.descriptor.as_ref().unwrap().id;
            let text = format!(
                "id = \"{id}\"\nname = \"second\"\ncalendar = \"02:30\"\naction = \"refresh\"\n"
            );
            root.write(format!("etc/lifeboat/schedule/{id}.toml"), text.as_bytes(), 0o644).unwrap();
        }
        let loader = loader::for_environment(&host, &inventory, &second).unwrap();
        let holds = Holds::default();
        let mut deletion = alone(&host, &inventory, &second, &holds);
        let steps = deletion.steps(&*loader).unwrap();
        let line = "remove the timer for 'second' (refresh at '02:30')";
        assert!(step::lines(&steps).iter().any(|found| found == line), "{steps:?}");
        step::run_all(&steps, &mut deletion, &mut Recorder::default()).unwrap();
        let left: Vec<_> =
            schedule::all(&host).unwrap().into_iter().map(|found| found.id).collect();
        assert_eq!(left, [third.descriptor.as_ref().unwrap().id], "that of another one stays");
    }

    #[test]
    fn one_that_was_never_complete_stays_an_interrupted_create() {
        let mut second = environment("/dev/lifeboat-none1");
        second.descriptor = Some(Descriptor::new("second".parse().unwrap(), None));
        let (firmware, inventory) = (Firmware::new(), Inventory::default());
        let host = firmware.host();
        let loader = loader::for_environment(&host, &inventory, &second).unwrap();
        let holds = Holds::default();
        let deletion = alone(&host, &inventory, &second, &holds);
        let lines = step::lines(&deletion.steps(&*loader).unwrap());
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("remove "), "{lines:?}");
    }
}
