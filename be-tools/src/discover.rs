//! Disks -> environments, managed and not. There is no registry: every file system that can hold a
//! root is looked at.

mod boot_state;
mod environments;
pub(crate) mod scan;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::environment::{BootEnvironment, Name};
use crate::error::{Error, Refusal, Result};
use crate::host::System;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::mounts::Mounts;
use crate::storage::probe::Content;
use crate::workers;

pub(crate) use workers::serve;

/// How long looking into one file system may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// What was found on the disks of this machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inventory {
    /// Every block device.
    pub devices: Devices,
    /// Every boot environment, by device.
    pub environments: Vec<BootEnvironment>,
    /// What could not be looked at, and why.
    pub warnings: Vec<String>,
}

/// Finds the boot environments of this machine. Writes nothing to any disk.
///
/// # Errors
/// When `/sys` or `/proc` cannot be read; a disk that cannot be read is a warning.
pub fn discover(system: &System) -> Result<Inventory> {
    let devices = Devices::scan(system)?;
    let mounts = Mounts::read(system)?;
    let mut inventory = look(system, devices, &mounts);
    if let Err(e) = boot_state::annotate(system, &mut inventory) {
        inventory.warnings.push(format!("what boots next is not known: {e}"));
    }
    Ok(inventory)
}

fn look(system: &System, devices: Devices, mounts: &Mounts) -> Inventory {
    let mut warnings = unreadable(&devices);
    let candidates = environments::candidates(&devices);
    let dir = scan::directory(&system.run);
    let place = |device: &BlockDevice| environments::place(device, mounts);
    let ask = |requests: &[scan::Request]| workers::answer_all(requests.chunks(1), DEADLINE);

    let requests: Vec<_> =
        candidates.iter().map(|device| environments::request(place(device), &dir)).collect();
    let mut roots = Vec::new();
    for (device, answer) in candidates.iter().zip(ask(&requests)) {
        match answer {
            Ok(found) => roots
                .extend(found.into_iter().map(|facts| environments::FoundRoot { device, facts })),
            Err(why) => {
                warnings.push(format!("{} was not looked into: {why}", device.node.display()))
            }
        }
    }
    // A BE with a /boot or /usr of its own is looked at again, with those in their places.
    let split: Vec<usize> = (0..roots.len())
        .filter(|i| !environments::nested(&roots[*i], &devices, mounts).is_empty())
        .collect();
    let again: Vec<_> = split
        .iter()
        .map(|index| {
            let root = &roots[*index];
            scan::Request {
                subvolume: root.facts.subvolume.clone(),
                nested: environments::nested(root, &devices, mounts),
                ..environments::request(place(root.device), &dir)
            }
        })
        .collect();
    for (index, answer) in split.into_iter().zip(ask(&again)) {
        let root = &mut roots[index];
        match answer.map(|mut found| found.pop()) {
            Ok(Some(facts)) => root.facts = facts,
            Ok(None) => {}
            Err(why) => {
                warnings.push(format!("{} was not looked into: {why}", root.device.node.display()))
            }
        }
    }
    let environments = environments::environments(&roots, &devices, mounts);
    Inventory { environments, warnings, devices }
}

/// What could not even be read: all of it without root, else disks that fail or never answer. An
/// empty drive is no news.
fn unreadable(devices: &Devices) -> Vec<String> {
    let failed = |d: &BlockDevice| match &d.content {
        Content::Unreadable(why) if !d.removable || why.starts_with(workers::LATE) => {
            Some(format!("{} could not be read: {why}", d.node.display()))
        }
        _ => None,
    };
    let all: Vec<String> = devices.iter().filter_map(failed).collect();
    if all.is_empty() || rustix::process::geteuid().is_root() {
        return all;
    }
    vec![format!(
        "{} devices could not be read: boot environments are found by root only, use sudo",
        all.len()
    )]
}

/// What is on these devices alone: a machine under test has others.
#[cfg(test)]
pub(crate) fn look_at(devices: Devices) -> Inventory {
    let run = tempfile::tempdir().unwrap();
    let system = System { run: run.path().into(), ..System::host() };
    look(&system, devices, &Mounts::read(&system).unwrap())
}

/// What a directory would be as the root file system with this UUID, beside one labelled `second`.
#[cfg(test)]
pub(crate) fn environment_in(
    dir: &Path,
    uuid: &str,
) -> (crate::environment::facts::Facts, BootEnvironment, Devices) {
    use crate::environment::facts::Facts;
    use crate::storage::probe::{Kind, SuperBlock};
    let device = |name: &str, uuid: &str, label: &str| {
        let mut found = SuperBlock::new(Kind::Ext4);
        (found.uuid, found.label) = (uuid.into(), label.into());
        BlockDevice::example(name, found)
    };
    let devices: Devices =
        [device("vdy1", uuid, "first"), device("vdy2", "2", "second")].into_iter().collect();
    let facts = Facts::read(&crate::root_dir::Rooted::open(dir).unwrap(), None).unwrap();
    let root =
        environments::FoundRoot { device: devices.by_name("vdy1").unwrap(), facts: facts.clone() };
    let environment = environments::environments(&[root], &devices, &Mounts::default()).remove(0);
    (facts, environment, devices)
}

impl Inventory {
    /// The BE that runs now.
    pub fn running(&self) -> Option<&BootEnvironment> {
        self.environments.iter().find(|e| e.running)
    }

    /// The BE that a command line names: its name (ignoring case), its id, `NAME@DEVICE`, or
    /// `@DEVICE[:SUBVOLUME]`.
    ///
    /// # Errors
    /// [`Error::Usage`] with what there is, when nothing answers; [`Refusal::Ambiguous`] when
    /// several do.
    pub fn find(&self, reference: &str) -> Result<&BootEnvironment> {
        let named = |e: &&BootEnvironment, name: &str| {
            e.descriptor.as_ref().is_some_and(|d| d.name.as_str().eq_ignore_ascii_case(name))
        };
        let is_id = |e: &&BootEnvironment| {
            e.descriptor.as_ref().is_some_and(|d| d.id.to_string() == reference)
        };
        let found: Vec<&BootEnvironment> = match reference.split_once('@') {
            None => self.environments.iter().filter(|e| named(e, reference) || is_id(e)).collect(),
            Some((name, place)) => {
                let here = self.at_place(place);
                here.into_iter().filter(|e| name.is_empty() || named(e, name)).collect()
            }
        };
        match found[..] {
            [one] => Ok(one),
            [] => Err(Error::Usage(self.nobody(reference))),
            ref several => Err(Refusal::Ambiguous {
                name: reference.into(),
                candidates: several.iter().map(|e| e.reference.clone()).collect(),
            }
            .into()),
        }
    }

    /// The named BE, or the running one.
    ///
    /// # Errors
    /// As [`Inventory::find`], and when the running system is on none of the disks.
    pub fn find_or_running(&self, reference: Option<&str>) -> Result<&BootEnvironment> {
        match reference {
            Some(reference) => self.find(reference),
            None => self.running().ok_or_else(|| {
                Error::Usage(format!(
                    "the running system is no boot environment of these disks: {}",
                    self.known()
                ))
            }),
        }
    }

    /// The BEs at `DEVICE[:SUBVOLUME]`.
    fn at_place(&self, place: &str) -> Vec<&BootEnvironment> {
        let on = |device: &str| -> Vec<PathBuf> {
            self.devices.lookup(device).into_iter().map(|d| d.node.clone()).collect()
        };
        let whole = on(place);
        if !whole.is_empty() {
            return self.environments.iter().filter(|e| whole.contains(&e.root.device)).collect();
        }
        let Some((device, subvolume)) = place.rsplit_once(':') else { return Vec::new() };
        let nodes = on(device);
        let subvolume = subvolume.trim_start_matches('/');
        self.environments
            .iter()
            .filter(|e| {
                nodes.contains(&e.root.device)
                    && e.root.subvolume.as_deref().unwrap_or("") == subvolume
            })
            .collect()
    }

    fn nobody(&self, reference: &str) -> String {
        format!("no boot environment answers to '{}': {}", reference.escape_debug(), self.known())
    }

    fn known(&self) -> String {
        if self.environments.is_empty() {
            return "none was found on any disk".into();
        }
        let all: Vec<_> = self.environments.iter().map(|e| e.reference.as_str()).collect();
        format!("name one of {}", all.join(", "))
    }

    /// Refuses a name that a BE has, on whatever disk.
    ///
    /// # Errors
    /// [`Refusal::NameTaken`].
    pub fn refuse_taken(&self, name: &Name) -> Result<()> {
        let owner = self
            .environments
            .iter()
            .find(|e| e.descriptor.as_ref().is_some_and(|d| d.name == *name));
        match owner {
            None => Ok(()),
            Some(owner) => Err(Refusal::NameTaken {
                name: owner.name().into(),
                device: owner.root.device.display().to_string(),
            }
            .into()),
        }
    }

    /// Another BE with the same id, so with the same boot entry and loader directory: one is a
    /// block copy of the other, or was made to look so.
    pub fn twin_of(&self, environment: &BootEnvironment) -> Option<&BootEnvironment> {
        let id = environment.descriptor.as_ref()?.id.short();
        self.environments.iter().find(|e| {
            e.root != environment.root && e.descriptor.as_ref().is_some_and(|d| d.id.short() == id)
        })
    }

    /// The BEs that use a device: first that whose root it is, then those that mount it, shared or
    /// not.
    pub fn users_of(&self, node: &Path) -> Vec<&BootEnvironment> {
        let is = |device: &Path| match (self.devices.by_node(node), self.devices.by_node(device)) {
            (Some(a), Some(b)) => a.number == b.number,
            _ => device == node,
        };
        let mounts_it = |e: &BootEnvironment| {
            e.file_systems.iter().any(|f| f.device.as_deref().is_some_and(is))
        };
        let made = |e: &BootEnvironment| e.made.iter().any(|device| is(device));
        let mut users: Vec<_> = self
            .environments
            .iter()
            .filter(|e| is(&e.root.device) || mounts_it(e) || made(e))
            .collect();
        users.sort_by_key(|e| !is(&e.root.device));
        users
    }

    /// The BE that a device belongs to: the first of [`Inventory::users_of`].
    pub fn owner_of(&self, node: &Path) -> Option<&BootEnvironment> {
        self.users_of(node).into_iter().next()
    }

    /// The EFI system partitions.
    pub fn esps(&self) -> impl Iterator<Item = &BlockDevice> {
        self.devices.esps()
    }
}

#[cfg(test)]
mod tests;
