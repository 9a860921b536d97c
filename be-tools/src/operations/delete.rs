//! `be delete`, in the order of docs/design.md: the state in the descriptor, what points at the
//! loader, the loader, then the devices.

mod deletion;

use std::fmt::{Display, Formatter};
use std::path::PathBuf;

use crate::discover;
use crate::environment::{BootEnvironment, Inventory, Root};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::{self, Loader};
use crate::plan::{Plan, Report};
use crate::session::lock::{InProgress, Lock};
use crate::step;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Holds;
use crate::storage::namespace;

pub(crate) use deletion::{Deletion, Step};

/// Deletes a BE. `Ok(false)` if the report stopped after the plan.
///
/// # Errors
/// The BE is running, is mounted, is the only one that the firmware could start, or is unmanaged
/// and `force` is not set.
pub fn delete(host: &Host, reference: &str, force: bool, report: &mut dyn Report) -> Result<bool> {
    let lock = Lock::acquire(host)?;
    let choose = |inventory: &Inventory| {
        let root = inventory.find(reference)?.root.clone();
        Ok(Chosen { roots: vec![root], force, ..Chosen::default() })
    };
    delete_chosen(host, &lock, report, choose).map(|deleted| deleted.is_some())
}

/// The BEs that are to be deleted together.
#[derive(Default)]
pub(super) struct Chosen {
    /// Their roots, in the order in which they are deleted.
    pub(super) roots: Vec<Root>,
    /// Sentences for the plan.
    pub(super) notes: Vec<String>,
    /// Whether those that must not be deleted are left alone, with a note. Else nothing is deleted.
    pub(super) leaves_refused: bool,
    /// Whether unmanaged and hibernated ones are deleted too.
    pub(super) force: bool,
}

/// Deletes the BEs that `choose` names, behind one plan, and returns their names. `None` if the report
/// stopped after the plan.
///
/// # Errors
/// As [`delete`], for any of them, and those of `choose`.
pub(super) fn delete_chosen(
    host: &Host,
    lock: &Lock,
    report: &mut dyn Report,
    choose: impl FnOnce(&Inventory) -> Result<Chosen>,
) -> Result<Option<Vec<String>>> {
    let inventory = discover::discover(host)?;
    let chosen = choose(&inventory)?;
    let find = |root: &Root| inventory.environments.iter().find(|e| e.root == *root);
    let mut going: Vec<&BootEnvironment> = chosen.roots.iter().filter_map(find).collect();
    let mut notes = chosen.notes.clone();
    let judged = loop {
        match judge(host, &inventory, &going, &chosen) {
            Ok(judged) => break judged,
            Err((_, Error::Interrupted)) => return Err(Error::Interrupted),
            Err((which, why)) if chosen.leaves_refused => {
                let left = going.remove(which);
                if !matches!(why, Error::Refused(_)) {
                    report
                        .fall_short(&format!("'{}' could not be looked at: {why}", left.reference));
                }
                notes.push(format!("'{}' is not deleted: {why}", left.reference));
            }
            Err((_, why)) => return Err(why),
        }
    };
    if going.is_empty() {
        notes.iter().for_each(|note| report.warn(note));
        return Ok(Some(Vec::new()));
    }
    let holds = Holds::take(judged.iter().flat_map(|one| &one.devices).copied())?;
    let mut plan = Plan { title: title(&going), ..Plan::default() };
    let mut steps = Vec::new();
    for (index, (environment, Judged { devices, loader })) in going.iter().zip(&judged).enumerate()
    {
        lock.note(InProgress::on("delete", environment));
        let before = &going[..index];
        let deletion = Deletion { host, inventory: &inventory, environment, holds: &holds, before };
        let erase = devices.iter().map(|device| Step::Erase(device));
        let own = deletion.steps(&**loader)?.into_iter().chain(erase);
        steps.extend(own.map(|step| OfOne { deletion, step }));
        for device in devices {
            plan.devices.push(device.planned("blank").of(&environment.reference));
        }
        let is_left = |node: &&PathBuf| !devices.iter().any(|device| device.node == **node);
        for left in environment.own_devices().into_iter().filter(is_left) {
            plan.notes.push(format!(
                "{} is not erased: it was not made for '{}'",
                left.display(),
                environment.reference
            ));
        }
        plan.notes.extend(has_changes(environment));
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
    Ok(Some(going.iter().map(|environment| environment.reference.clone()).collect()))
}

/// A BE that can be deleted.
struct Judged<'a> {
    /// What is erased, in order.
    devices: Vec<&'a BlockDevice>,
    loader: Box<dyn Loader + 'a>,
}

/// What is deleted with each of these BEs, if all can be deleted one after the other.
///
/// # Errors
/// Which of them cannot be deleted, and why.
fn judge<'a>(
    host: &'a Host,
    inventory: &'a Inventory,
    going: &[&BootEnvironment],
    chosen: &Chosen,
) -> Result<Vec<Judged<'a>>, (usize, Error)> {
    let holds = Holds::default();
    let deletion = |index: usize| {
        let (environment, before) = (going[index], &going[..index]);
        Deletion { host, inventory, environment, holds: &holds, before }
    };
    let (mut judged, mut gone) = (Vec::new(), Vec::new());
    for (index, environment) in going.iter().enumerate() {
        let one = || {
            refuse(environment, chosen.force)?;
            let devices = to_erase(inventory, environment)?;
            deletion(index).refuse_in_use(&devices)?;
            if chosen.leaves_refused {
                // What another mount namespace uses is not among the mounts.
                Holds::take(devices.iter().copied())?.claim()?;
            }
            let loader = loader::for_environment(host, inventory, environment)?;
            let entries = deletion(index).removed_entries(&*loader)?;
            Ok((Judged { devices, loader }, entries))
        };
        let (one, entries) = one().map_err(|why| (index, why))?;
        judged.push(one);
        gone.extend(entries);
    }
    for (index, one) in judged.iter().enumerate() {
        let refused = deletion(index).refuse_unbootable(&*one.loader, &gone);
        refused.map_err(|why| (index, why))?;
    }
    Ok(judged)
}

/// Says that a BE may hold what is nowhere else.
fn has_changes(environment: &BootEnvironment) -> Option<String> {
    let changed = environment.descriptor.as_ref()?.changed?;
    Some(format!(
        "'{}' has run or was changed since {changed}: what is only in it is lost",
        environment.reference
    ))
}

fn title(chosen: &[&BootEnvironment]) -> String {
    let names: Vec<String> = chosen.iter().map(|e| format!("'{}'", e.reference)).collect();
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

#[cfg(test)]
mod tests {
    use super::deletion::tests::{environment, inventory};
    use super::*;
    use crate::environment::{FileSystemUse, MadeDevice};
    use crate::loader::testing::Firmware;
    use crate::storage::device_number::DeviceNumber;

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
    fn a_twin_that_is_deleted_too_is_no_twin() {
        let firmware = Firmware::new();
        let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
        let [mut second, mut twin] =
            ["/dev/lifeboat-none1", "/dev/lifeboat-none2"].map(environment);
        twin.descriptor = second.descriptor.clone();
        let id = second.descriptor.as_ref().unwrap().id.short();
        let own = firmware.add("Lifeboat: second", &format!(r"\EFI\lifeboat\{id}\grubx64.efi"));
        second.boot_entry = Some(own);
        twin.boot_entry = Some(own);
        let mut inventory = inventory(&[&second, &twin]);
        let numbered = inventory.devices.iter().zip(1..).map(|(device, minor)| BlockDevice {
            number: DeviceNumber { major: 8, minor },
            ..device.clone()
        });
        inventory.devices = numbered.chain(firmware.devices().iter().cloned()).collect();
        let (host, holds) = (firmware.host(), Holds::default());
        let lines = |going: &[&BootEnvironment]| -> Vec<String> {
            let judged = judge(&host, &inventory, going, &Chosen::default());
            let judged = judged.map_err(|(_, why)| why).unwrap();
            let mut lines = Vec::new();
            for (index, one) in judged.iter().enumerate() {
                let (environment, before) = (going[index], &going[..index]);
                let deletion = Deletion {
                    host: &host,
                    inventory: &inventory,
                    environment,
                    holds: &holds,
                    before,
                };
                lines.extend(step::lines(&deletion.steps(&*one.loader).unwrap()));
            }
            lines
        };
        assert_eq!(lines(&[&second]), ["mark 'second' as incomplete (delete)"]);
        let both = lines(&[&second, &twin]);
        assert!(both.iter().any(|line| line.contains("then delete Boot")), "{both:?}");
        // As the first one it is kept only if it starts the twin, whose loader has no files here.
        firmware.entries().set_order(&[own, debian]).unwrap();
        let alone = judge(&host, &inventory, &[&second], &Chosen::default()).map(|_| ());
        assert!(matches!(alone, Err((0, Error::Refused(Refusal::KeptStartsFirst { .. })))));
        lines(&[&second, &twin]);
    }
}
