//! `be delete`, in the order of DESIGN.md: state, what points at its loader, the loader, then the
//! device.

use std::path::PathBuf;

use crate::discover;
use crate::environment::Inventory;
use crate::environment::mounted::{Access, MountedEnvironment};
use crate::environment::{BootEnvironment, Operation};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::loader;
use crate::plan::{Plan, Report, go_on};
use crate::root_dir::RootDir;
use crate::session::lock::Lock;
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
    let mut plan = Plan {
        title: format!("Delete boot environment '{}'", environment.name()),
        steps: steps(host, &inventory, environment)?,
        ..Plan::default()
    };
    for device in &devices {
        plan.devices.push(inventory.devices.planned(device, "blank")?);
        plan.steps.push(format!("erase the file system signature on {}", device.display()));
    }
    for left in environment.own_devices().into_iter().filter(|device| !devices.contains(device)) {
        plan.notes.push(format!(
            "{} stays: it was not made for '{}'",
            left.display(),
            environment.name()
        ));
    }
    plan.notes.extend(note(host, &inventory, environment));
    if !report.confirm(&plan)? {
        return Ok(false);
    }
    namespace::enter_private_namespace()?;
    forget(host, &inventory, environment, report)?;
    for device in &devices {
        go_on()?;
        report.part(&format!("erasing the signature on {}", device.display()));
        mkfs::wipe(device)?;
    }
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

/// The steps of [`forget`], for a plan.
///
/// # Errors
/// The firmware's variables cannot be read.
pub fn steps(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Result<Vec<String>> {
    let Some(descriptor) = &environment.descriptor else { return Ok(Vec::new()) };
    let mut steps = vec![format!("mark '{}' as incomplete (delete)", descriptor.name)];
    if let Some(twin) = inventory.twin_of(environment) {
        steps.push(format!(
            "leave boot entry and loader to '{}', which has the same id",
            twin.reference
        ));
        return Ok(steps);
    }
    steps.extend(loader::removal_lines(host, inventory, environment)?);
    Ok(steps)
}

/// What [`forget`] cannot do, for a plan.
pub fn note(host: &Host, inventory: &Inventory, environment: &BootEnvironment) -> Option<String> {
    let may_have_entry =
        environment.descriptor.is_some() && inventory.devices.esps().next().is_some();
    let goes = may_have_entry && inventory.twin_of(environment).is_none();
    let unseen = goes && loader::firmware::boot_entries(host).is_err();
    unseen.then(|| {
        format!(
            "the firmware's variables cannot be read here, so a boot entry of '{}' cannot be \
            seen: if it has one, it stays and leads nowhere, \
             until `be boot-entries remove`",
            environment.name()
        )
    })
}

/// Takes a BE out of everything that points at it; what its devices hold is erased by the caller
/// afterwards.
///
/// # Errors
/// When a write fails; running it again is safe.
pub fn forget(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
    report: &mut dyn Report,
) -> Result<()> {
    let Some(descriptor) = &environment.descriptor else { return Ok(()) };
    report.part(&format!("taking '{}' out of the boot menu", descriptor.name));
    let marked = MountedEnvironment::mount_root(host, inventory, environment, Access::ReadWrite)
        .and_then(|mounted| {
            descriptor.clone().begin(Operation::Delete, &RootDir::open(mounted.root())?)
        });
    // What is full or too broken for that is deleted all the same, its boot entry first.
    if let Err(e) = marked {
        report.warn(&format!("'{}' could not be marked as incomplete: {e}", descriptor.name));
    }
    go_on()?;
    if inventory.twin_of(environment).is_some() {
        return Ok(());
    }
    loader::remove(host, inventory, descriptor.id)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::environment::{Descriptor, FileSystemUse};
    use crate::loader::testing::Firmware;
    use crate::storage::device::BlockDevice;
    use crate::storage::partitions::{PartitionInfo, PartitionType};
    use crate::storage::probe::{Kind, SuperBlock};

    fn environment(node: &str) -> BootEnvironment {
        let mut found = BootEnvironment::empty(Path::new(node));
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        descriptor.operation = None;
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
        let said = note(&elsewhere, &inventory, &second).unwrap();
        assert!(
            said.contains("variables cannot be read here") && said.contains("'second'"),
            "{said}"
        );
        assert_eq!(note(&firmware.host(), &inventory, &second), None);
        let mut twin = second.clone();
        twin.root.device = "/dev/lifeboat-none2".into();
        inventory.environments.push(twin);
        assert_eq!(note(&elsewhere, &inventory, &second), None);
        second.descriptor = None;
        assert_eq!(note(&elsewhere, &inventory, &second), None);
    }

    #[test]
    fn a_block_copy_leaves_the_boot_entry_to_its_twin() {
        let second = environment("/dev/lifeboat-none1");
        let mut inventory =
            Inventory { environments: vec![second.clone()], ..Inventory::default() };
        let firmware = Firmware::new();
        assert_eq!(steps(&firmware.host(), &inventory, &second).unwrap().len(), 2);
        let mut twin = second.clone();
        twin.root.device = "/dev/lifeboat-none2".into();
        twin.reference = "second@none2".into();
        inventory.environments.push(twin);
        assert!(steps(&firmware.host(), &inventory, &second).unwrap()[1].contains("second@none2"));
    }
}
