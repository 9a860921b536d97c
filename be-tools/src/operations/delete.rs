//! `be delete`, in the order of docs/design.md: the state in the descriptor, what points at the
//! loader, the loader, then the devices.

use std::fmt::{Display, Formatter};
use std::path::PathBuf;

use super::schedule::{self, Schedule};
use crate::discover;
use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::environment::{BootEnvironment, Descriptor, Inventory, Operation, Root, State};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::{self, Loader, LoaderStep};
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::session::lock::{InProgress, Lock};
use crate::step;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Holds;
use crate::storage::namespace;
use crate::storage::{mkfs, usage::Usage};

/// Deletes a BE. `Ok(false)` if the report stopped after the plan.
///
/// # Errors
/// The BE is running, is mounted, is the only one that the firmware could start, or is unmanaged
/// and `force` is not set.
pub fn delete(host: &Host, reference: &str, force: bool, report: &mut dyn Report) -> Result<bool> {
    let choose = |inventory: &Inventory| {
        let found = inventory.find(reference)?;
        Ok(Chosen { roots: vec![found.root.clone()], notes: Vec::new() })
    };
    delete_chosen(host, force, report, choose).map(|deleted| deleted.is_some())
}

/// The BEs that are to be deleted together.
pub(super) struct Chosen {
    /// Their roots.
    pub(super) roots: Vec<Root>,
    /// Sentences for the plan.
    pub(super) notes: Vec<String>,
}

/// Deletes the BEs that `choose` names, behind one plan, and returns their names. `None` if the report
/// stopped after the plan.
///
/// # Errors
/// As [`delete`], for any of them, and those of `choose`.
pub(super) fn delete_chosen(
    host: &Host,
    force: bool,
    report: &mut dyn Report,
    choose: impl FnOnce(&Inventory) -> Result<Chosen>,
) -> Result<Option<Vec<String>>> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let Chosen { roots, notes } = choose(&inventory)?;
    let chosen: Vec<&BootEnvironment> =
        inventory.environments.iter().filter(|e| roots.contains(&e.root)).collect();
    if chosen.is_empty() {
        notes.iter().for_each(|note| report.warn(note));
        return Ok(Some(Vec::new()));
    }
    let mut plan = Plan { title: title(&chosen), ..Plan::default() };
    let mut devices = Vec::new();
    for environment in &chosen {
        lock.note(InProgress::on("delete", environment));
        refuse(environment, force)?;
        loader::refuse_last(host, environment)?;
        devices.push(to_erase(&inventory, environment)?);
    }
    let holds = Holds::take(devices.iter().flatten().copied())?;
    let loaders: Vec<Box<dyn Loader>> = chosen
        .iter()
        .map(|environment| loader::for_environment(host, &inventory, environment))
        .collect::<Result<_>>()?;
    let mut steps = Vec::new();
    for ((environment, devices), loader) in chosen.iter().zip(&devices).zip(&loaders) {
        let deletion = Deletion { host, inventory: &inventory, environment, holds: &holds };
        deletion.refuse_in_use(devices)?;
        if environment.next_boot && !loader.state()?.next {
            return Err(Refusal::ForeignEntryStartsIt { name: environment.name().into() }.into());
        }
        let erase = devices.iter().map(|device| Step::Erase(device));
        let own = deletion.steps(&**loader)?.into_iter().chain(erase);
        steps.extend(own.map(|step| OfOne { deletion, step }));
        for device in devices {
            plan.devices.push(device.planned("blank").of(environment.name()));
        }
        let is_left = |node: &&PathBuf| !devices.iter().any(|device| device.node == **node);
        for left in environment.own_devices().into_iter().filter(is_left) {
            plan.notes.push(format!(
                "{} is not erased: it was not made for '{}'",
                left.display(),
                environment.name()
            ));
        }
        plan.notes.extend(deletion.notes());
    }
    plan.steps = step::lines::<()>(&steps);
    plan.notes.extend(notes);
    if !lock.confirm(report, &plan)? {
        return Ok(None);
    }
    holds.claim()?;
    namespace::enter_private_namespace()?;
    step::run_all(&steps, &mut (), report)?;
    Ok(Some(chosen.iter().map(|environment| environment.name().to_owned()).collect()))
}

fn title(chosen: &[&BootEnvironment]) -> String {
    let names: Vec<String> = chosen.iter().map(|e| format!("'{}'", e.name())).collect();
    match &names[..] {
        [one] => format!("Delete boot environment {one}"),
        several => format!("Delete boot environments {}", several.join(", ")),
    }
}

/// The devices to erase, in order. The root is the last: by its descriptor, an interrupted deletion
/// is recognized.
fn to_erase<'i>(
    inventory: &'i Inventory,
    environment: &BootEnvironment,
) -> Result<Vec<&'i BlockDevice>> {
    let found = environment.made_devices().into_iter().rev().map(|node| {
        let device = inventory.devices.by_node(node);
        device.ok_or_else(|| Error::DeviceGone { device: node.clone() })
    });
    found.collect()
}

/// Refuses a BE that must not be deleted or replaced.
///
/// # Errors
/// The refusal.
pub fn refuse(environment: &BootEnvironment, force: bool) -> Result<()> {
    environment.refuse_running("boot another one first")?;
    environment.refuse_mounted()?;
    let name = environment.reference.clone();
    if environment.descriptor.is_none() && !force {
        let system = environment.os.pretty_name.clone();
        return Err(Refusal::NotMadeByLifeboat { name, system }.into());
    }
    if !force {
        environment.refuse_hibernated()?;
    }
    if environment.root.subvolume.is_some() {
        let device = environment.root.device.display().to_string();
        let way_out = "delete it with `btrfs subvolume delete`".into();
        return Err(Refusal::Subvolume { name, device, way_out }.into());
    }
    Ok(())
}

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
}

impl<'a> Deletion<'a> {
    /// Refuses devices that the running system or another BE uses: a fstab can name such devices.
    fn refuse_in_use(&self, devices: &[&BlockDevice]) -> Result<()> {
        let Deletion { host, inventory, environment, .. } = self;
        let usage = Usage::read(host)?;
        for device in devices {
            usage.refuse_used(device)?;
            let users = inventory.users_of_device(device);
            if let Some(other) = users.into_iter().find(|user| user.root != environment.root) {
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
        let twin = self.inventory.twin_of(self.environment);
        // What is left alone starts the twin, as long as that stays here.
        let stays = |twin: &BootEnvironment| {
            twin.running || !twin.is_on_portable_disk(&self.inventory.devices)
        };
        if !twin.is_some_and(stays) {
            loader.refuse_kept_first(twin.is_some())?;
        }
        if twin.is_none() {
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
        if let Some(twin) = inventory.twin_of(environment) {
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

/// A step of one of several deletions.
struct OfOne<'a> {
    deletion: Deletion<'a>,
    step: Step<'a>,
}

impl Display for OfOne<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.step.fmt(f)
    }
}

impl step::Step<()> for OfOne<'_> {
    fn run(&self, (): &mut (), report: &mut dyn Report) -> Result<()> {
        self.step.run(&mut self.deletion.clone(), report)
    }
}

impl step::Step<Deletion<'_>> for Step<'_> {
    fn run(&self, deletion: &mut Deletion, report: &mut dyn Report) -> Result<()> {
        let Deletion { host, inventory, environment, holds } = *deletion;
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
mod tests {
    use std::path::Path;

    use super::*;
    use crate::environment::{self, FileSystemUse, MadeDevice};
    use crate::loader::testing::Firmware;
    use crate::plan::testing::Recorder;
    use crate::storage::partitions::{PartitionInfo, PartitionType};
    use crate::storage::probe::{Kind, SuperBlock};

    fn environment(node: &str) -> BootEnvironment {
        let mut found = BootEnvironment::empty(Path::new(node));
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        (descriptor.state, descriptor.operation) = (environment::State::Complete, None);
        found.descriptor = Some(descriptor);
        found
    }

    /// A machine with two disks and these BEs.
    fn inventory(environments: &[&BootEnvironment]) -> Inventory {
        let device = |name| BlockDevice::example(name, SuperBlock::new(Kind::Ext4));
        Inventory {
            environments: environments.iter().map(|found| (*found).clone()).collect(),
            devices: ["lifeboat-none1", "lifeboat-none2"].into_iter().map(device).collect(),
            ..Inventory::default()
        }
    }

    #[test]
    fn devices_that_were_made_for_it_are_erased_and_the_root_last() {
        let mut second = environment("/dev/lifeboat-none1");
        second.file_systems = ["/dev/lifeboat-none2", "/dev/lifeboat-data"]
            .map(|device| FileSystemUse::example("/var", device))
            .into();
        let made = |purpose: &str, device: &str| MadeDevice {
            purpose: purpose.to_owned().into(),
            device: device.into(),
        };
        second.made = vec![made("/", "/dev/lifeboat-none1"), made("/var", "/dev/lifeboat-none2")];
        let inventory = inventory(&[]);
        let erased = to_erase(&inventory, &second).unwrap();
        let names: Vec<&str> = erased.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["lifeboat-none2", "lifeboat-none1"]);
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
            let deletion = Deletion { host: &host, inventory, environment: &second, holds: &holds };
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
            Deletion { host, inventory, environment, holds: &Holds::default() }.notes()
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
            let deletion = Deletion { host: &host, inventory, environment: &second, holds: &holds };
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
        let mut deletion =
            Deletion { host: &host, inventory: &inventory, environment: &second, holds: &holds };
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
        let deletion =
            Deletion { host: &host, inventory: &inventory, environment: &second, holds: &holds };
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
        let mut deletion =
            Deletion { host: &host, inventory: &inventory, environment: &second, holds: &holds };
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
        let deletion =
            Deletion { host: &host, inventory: &inventory, environment: &second, holds: &holds };
        let lines = step::lines(&deletion.steps(&*loader).unwrap());
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("remove "), "{lines:?}");
    }
}
