//! `be delete`, in the order of DESIGN.md: state, what points at its loader, the loader, then the
//! device.

use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::discover;
use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::environment::{BootEnvironment, Descriptor, Inventory, Operation};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::loader::{self, Loader, LoaderStep};
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::session::lock::Lock;
use crate::step;
use crate::storage::namespace;
use crate::storage::{mkfs, usage::Usage};

/// Deletes a BE; `Ok(false)` when the report stopped after the plan.
///
/// # Errors
/// When it runs, is mounted, is what boots first with nothing else behind it, or is unmanaged and
/// not forced.
pub fn delete(host: &Host, reference: &str, force: bool, report: &mut dyn Report) -> Result<bool> {
    let _lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    refuse(environment, force)?;
    loader::refuse_last(host, environment)?;

    let devices = to_erase(environment);
    refuse_in_use(host, &inventory, environment, &devices)?;
    let loader = loader::for_environment(host, &inventory, environment)?;
    let mut steps = forgetting(&inventory, environment, &*loader)?;
    steps.extend(devices.iter().map(|device| Step::Erase(device)));
    let mut plan = Plan {
        title: format!("Delete boot environment '{}'", environment.name()),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    for device in &devices {
        plan.devices.push(inventory.devices.planned(device, "blank")?);
    }
    for left in environment.own_devices().into_iter().filter(|device| !devices.contains(device)) {
        plan.notes.push(format!(
            "{} stays: it was not made for '{}'",
            left.display(),
            environment.name()
        ));
    }
    plan.notes.extend(notes(host, &inventory, environment));
    if !report.confirm(&plan)? {
        return Ok(false);
    }
    namespace::enter_private_namespace()?;
    let mut state = State { host, inventory: &inventory, environment };
    step::run_all(&steps, &mut state, report)?;
    Ok(true)
}

/// Its devices in the order of erasing: the root, by which a deletion that was interrupted is found
/// again, is the last.
fn to_erase(environment: &BootEnvironment) -> Vec<PathBuf> {
    environment.made_devices().into_iter().rev().cloned().collect()
}

/// Its fstab may name what the running system or another BE uses.
fn refuse_in_use(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
    devices: &[PathBuf],
) -> Result<()> {
    let usage = Usage::read(host)?;
    for node in devices {
        if let Some(device) = inventory.devices.by_node(node) {
            usage.refuse_used(device)?;
        }
        if let Some(other) =
            inventory.users_of(node).into_iter().find(|user| user.root != environment.root)
        {
            return Err(Refusal::Other(format!(
                "{} holds files of '{}' too: delete that one first, or take {} out of its fstab",
                node.display(),
                other.reference,
                node.display()
            ))
            .into());
        }
    }
    Ok(())
}

/// Why it must not be deleted or replaced.
///
/// # Errors
/// The refusal.
pub fn refuse(environment: &BootEnvironment, force: bool) -> Result<()> {
    if environment.running {
        return Err(Refusal::Running {
            name: environment.name().into(),
            way_out: "boot another one first".into(),
        }
        .into());
    }
    if let Some(place) = environment.mounted_at.first() {
        return Err(Refusal::Other(format!(
            "'{}' is mounted on {}: unmount it first",
            environment.name(),
            place.display()
        ))
        .into());
    }
    if environment.descriptor.is_none() && !force {
        return Err(Refusal::Other(format!(
            "'{}' is unmanaged, a system that Lifeboat did not make ({}): give --force to erase it",
            environment.reference, environment.os.pretty_name
        ))
        .into());
    }
    if environment.root.subvolume.is_some() {
        return Err(Refusal::Other(format!(
            "'{}' is a btrfs subvolume of {}, which others may share: delete it with `btrfs \
            subvolume delete`",
            environment.reference,
            environment.root.device.display()
        ))
        .into());
    }
    Ok(())
}

/// What is done to a BE that goes.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    /// What is full or too broken for that is deleted all the same.
    Mark(&'a Descriptor),
    /// Out of everything that points at it.
    Forget(LoaderStep<'a>),
    /// What is on the device goes.
    Erase(&'a Path),
}

/// What the steps need.
pub(crate) struct State<'a> {
    pub(crate) host: &'a Host,
    pub(crate) inventory: &'a Inventory,
    pub(crate) environment: &'a BootEnvironment,
}

/// The steps that take a BE out of everything that points at it, so that what its devices hold can
/// be erased. They can be run again.
///
/// # Errors
/// What points at it cannot be read.
pub(crate) fn forgetting<'a>(
    inventory: &Inventory,
    environment: &'a BootEnvironment,
    loader: &'a dyn Loader,
) -> Result<Vec<Step<'a>>> {
    let Some(descriptor) = &environment.descriptor else { return Ok(Vec::new()) };
    // What was never complete says so already, and the `be create` that made it can be run again.
    let is_marked = descriptor.operation == Some(Operation::Create);
    let mut steps: Vec<Step> = (!is_marked).then_some(Step::Mark(descriptor)).into_iter().collect();
    if inventory.twin_of(environment).is_none() {
        steps.extend(loader.remove()?.into_iter().map(Step::Forget));
    }
    Ok(steps)
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Mark(descriptor) => {
                write!(f, "mark '{}' as incomplete (delete)", descriptor.name)
            }
            Step::Forget(step) => step.fmt(f),
            Step::Erase(device) => {
                write!(f, "erase the file system signature on {}", device.display())
            }
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        let State { host, inventory, environment } = *state;
        match self {
            Step::Mark(descriptor) => {
                let mode = MountMode::ReadWrite;
                let marked = MountedEnvironment::mount_root(host, inventory, environment, mode)
                    .and_then(|mounted| {
                        let root = RootDir::open(mounted.root())?;
                        (*descriptor).clone().begin(Operation::Delete, &root)
                    });
                if let Err(why) = marked {
                    let name = &descriptor.name;
                    report.warn(&format!("'{name}' could not be marked as incomplete: {why}"));
                }
                Ok(())
            }
            Step::Forget(step) => step.run(),
            Step::Erase(device) => mkfs::wipe(device),
        }
    }
}

/// What the steps leave as it is, for a plan.
pub(crate) fn notes(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Vec<String> {
    if environment.descriptor.is_none() {
        return Vec::new();
    }
    if let Some(twin) = inventory.twin_of(environment) {
        return vec![format!(
            "boot entry and loader stay with '{}', which has the same id",
            twin.reference
        )];
    }
    let may_have_entry = inventory.devices.esps().next().is_some();
    if !may_have_entry || loader::firmware::boot_entries(host).is_ok() {
        return Vec::new();
    }
    vec![format!(
        "the firmware's variables cannot be read here, so a boot entry of '{}' cannot be seen: if \
        it has one, it stays and leads nowhere, until `be boot-entries remove`",
        environment.name()
    )]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{self, FileSystemUse};
    use crate::loader::testing::Firmware;
    use crate::plan::testing::Recorder;
    use crate::storage::device::BlockDevice;
    use crate::storage::partitions::{PartitionInfo, PartitionType};
    use crate::storage::probe::{Kind, SuperBlock};

    fn environment(node: &str) -> BootEnvironment {
        let mut found = BootEnvironment::empty(Path::new(node));
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        (descriptor.state, descriptor.operation) = (environment::State::Complete, None);
        found.descriptor = Some(descriptor);
        found
    }

    fn uses(device: &str) -> FileSystemUse {
        FileSystemUse {
            mountpoint: "/var".into(),
            spec: device.into(),
            device: Some(device.into()),
            fs_type: "ext4".into(),
            options: "defaults".into(),
            size: None,
            shared: false,
        }
    }

    #[test]
    fn what_was_made_for_it_is_erased_and_the_root_last() {
        let mut second = environment("/dev/lifeboat-none1");
        second.file_systems = vec![uses("/dev/lifeboat-none2"), uses("/dev/lifeboat-data")];
        second.made = ["/dev/lifeboat-none1", "/dev/lifeboat-none2"].map(Into::into).into();
        assert_eq!(
            to_erase(&second),
            [Path::new("/dev/lifeboat-none2"), Path::new("/dev/lifeboat-none1")]
        );
    }

    #[test]
    fn what_another_one_lives_on_is_not_erased() {
        let second = environment("/dev/lifeboat-none1");
        let mut other = environment("/dev/lifeboat-none1");
        other.root.subvolume = Some("@other".into());
        let mut inventory =
            Inventory { environments: vec![second.clone()], ..Inventory::default() };
        let refused = |inventory: &Inventory| {
            refuse_in_use(&Host::local(), inventory, &second, &to_erase(&second))
        };
        assert!(refused(&inventory).is_ok());
        inventory.environments.push(other);
        assert_eq!(refused(&inventory).unwrap_err().exit_status(), 3);
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
            step::lines(&forgetting(inventory, &second, &*loader).unwrap())
        };
        assert_eq!(lines(&inventory).len(), 2);
        let mut twin = second.clone();
        twin.root.device = "/dev/lifeboat-none2".into();
        inventory.environments.push(twin);
        assert_eq!(lines(&inventory), ["mark 'second' as incomplete (delete)"]);
    }

    #[test]
    fn it_is_taken_out_of_the_menu_as_the_plan_says() {
        let firmware = Firmware::new();
        let mut second = environment("/dev/lifeboat-none1");
        let id = second.descriptor.as_ref().unwrap().id;
        let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
        let file = format!(r"\EFI\lifeboat\{}\grubx64.efi", id.short());
        second.boot_entry = Some(firmware.add("Lifeboat: second", &file));
        let (host, inventory) = (firmware.host(), Inventory::default());
        let loader = loader::for_environment(&host, &inventory, &second).unwrap();
        let steps = forgetting(&inventory, &second, &*loader).unwrap();
        let mut state = State { host: &host, inventory: &inventory, environment: &second };
        let mut heard = Recorder::default();
        step::run_all(&steps, &mut state, &mut heard).unwrap();
        assert_eq!(heard.steps, step::lines(&steps));
        assert!(heard.steps[1].starts_with("remove Boot0001 from BootNext"), "{:?}", heard.steps);
        assert_eq!(firmware.entries().order().unwrap(), [debian]);
        // Its device is not there, which hinders nothing.
        assert_eq!(heard.warnings.len(), 1);
    }

    #[test]
    fn what_was_never_complete_stays_an_interrupted_create() {
        let mut second = environment("/dev/lifeboat-none1");
        second.descriptor = Some(Descriptor::new("second".parse().unwrap(), None));
        let (firmware, inventory) = (Firmware::new(), Inventory::default());
        let host = firmware.host();
        let loader = loader::for_environment(&host, &inventory, &second).unwrap();
        let lines = step::lines(&forgetting(&inventory, &second, &*loader).unwrap());
        assert_eq!(lines.len(), 1);
        assert!(lines[0].starts_with("remove "), "{lines:?}");
    }
}
