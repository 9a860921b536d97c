//! The BEs and devices of this machine, and finding them by the names of a command line.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::boot_environment::{BootEnvironment, FileSystemUse};
use super::name::{Id, Name};
use crate::error::{Error, Refusal, Result};
use crate::storage::device::{BlockDevice, Devices};

/// The BEs and devices of this machine.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Inventory {
    /// All block devices.
    pub devices: Devices,
    /// All boot environments, sorted by device.
    pub environments: Vec<BootEnvironment>,
    /// What could not be read, and why.
    pub warnings: Vec<String>,
}

/// How many warnings an error repeats.
const MOST_WARNINGS: usize = 3;

impl Inventory {
    /// The running BE.
    pub fn running(&self) -> Option<&BootEnvironment> {
        self.environments.iter().find(|e| e.running)
    }

    /// The BE that a command line names: its name (ignoring case), its id, `NAME@DEVICE`, or
    /// `@DEVICE[:SUBVOLUME]`.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names that exist, if none matches; [`Refusal::Ambiguous`] if
    /// several match.
    pub fn find(&self, reference: &str) -> Result<&BootEnvironment> {
        if let Ok(id) = reference.parse() {
            return self.find_by_id(id);
        }
        let named = |e: &&BootEnvironment, name: &str| {
            e.descriptor.as_ref().is_some_and(|d| d.name.as_str().eq_ignore_ascii_case(name))
        };
        let found: Vec<&BootEnvironment> = match reference.split_once('@') {
            None => self.environments.iter().filter(|e| named(e, reference)).collect(),
            Some((name, place)) => {
                let here = self.on_device(place);
                here.into_iter().filter(|e| name.is_empty() || named(e, name)).collect()
            }
        };
        self.only(&found, reference)
    }

    /// The BE with this id, whatever the others are called.
    ///
    /// # Errors
    /// As [`Inventory::find`].
    pub fn find_by_id(&self, id: Id) -> Result<&BootEnvironment> {
        let has_id = |e: &&BootEnvironment| e.descriptor.as_ref().is_some_and(|d| d.id == id);
        let found: Vec<_> = self.environments.iter().filter(has_id).collect();
        self.only(&found, &id.to_string())
    }

    fn only<'i>(
        &self,
        found: &[&'i BootEnvironment],
        reference: &str,
    ) -> Result<&'i BootEnvironment> {
        match found {
            [one] => Ok(one),
            [] => Err(Error::Usage(self.no_match(reference))),
            several => Err(Refusal::Ambiguous {
                name: reference.into(),
                candidates: several.iter().map(|e| e.reference.clone()).collect(),
            }
            .into()),
        }
    }

    /// The named BE, or the running one.
    ///
    /// # Errors
    /// As [`Inventory::find`], and the running system is not on any of the disks.
    pub fn find_or_running(&self, reference: Option<&str>) -> Result<&BootEnvironment> {
        match reference {
            Some(reference) => self.find(reference),
            None => self.running().ok_or_else(|| {
                Error::Usage(format!(
                    "the running system is not a boot environment on these disks: {}",
                    self.known()
                ))
            }),
        }
    }

    /// The BEs on `DEVICE[:SUBVOLUME]`.
    fn on_device(&self, place: &str) -> Vec<&BootEnvironment> {
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

    fn no_match(&self, reference: &str) -> String {
        format!("there is no boot environment '{}': {}", reference.escape_debug(), self.known())
    }

    fn known(&self) -> String {
        let all: Vec<_> = self.environments.iter().map(|e| e.reference.as_str()).collect();
        // It may be on a disk that could not be read.
        let unread = self.warnings.iter().take(MOST_WARNINGS).map(|why| format!("; {why}"));
        let found = match all.is_empty() {
            true => "none was found on any disk".to_owned(),
            false => format!("name one of {}", all.join(", ")),
        };
        found + &unread.collect::<String>()
    }

    /// Refuses a name that a BE on any disk has.
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

    /// Another BE with the same id, and so with the same boot entry and loader directory. One is a
    /// block copy of the other, or pretends to be.
    pub fn twin_of(&self, environment: &BootEnvironment) -> Option<&BootEnvironment> {
        self.twins_of(environment).next()
    }

    /// All of them, as [`Inventory::twin_of`] finds one.
    pub fn twins_of<'i>(
        &'i self,
        environment: &BootEnvironment,
    ) -> impl Iterator<Item = &'i BootEnvironment> + use<'i> {
        let id = |e: &BootEnvironment| e.descriptor.as_ref().map(|d| d.id.short());
        let (own, root) = (id(environment), environment.root.clone());
        let is_twin = move |e: &&BootEnvironment| own.is_some() && id(e) == own && e.root != root;
        self.environments.iter().filter(is_twin)
    }

    /// Refuses to write to a BE whose boot entry may be that of another one.
    ///
    /// # Errors
    /// [`Refusal::SameId`].
    pub fn refuse_twin(&self, environment: &BootEnvironment) -> Result<()> {
        let Some(twin) = self.twin_of(environment) else { return Ok(()) };
        let (name, twin) = (environment.reference.clone(), twin.reference.clone());
        Err(Refusal::SameId { name, twin }.into())
    }

    /// Refuses to write to a device of which a hibernated BE has another state in its memory.
    ///
    /// # Errors
    /// [`Refusal::Hibernated`].
    pub fn refuse_hibernated(&self, device: &BlockDevice) -> Result<()> {
        let users = self.users_of_device(device);
        Ok(users.into_iter().try_for_each(BootEnvironment::refuse_hibernated)?)
    }

    /// The BEs that use a device: first the one whose root it is, then those that mount it, shared
    /// or not.
    pub fn users_of(&self, node: &Path) -> Vec<&BootEnvironment> {
        match self.devices.by_node(node) {
            Some(device) => self.users_of_device(device),
            None => self.users_where(|device| device == node),
        }
    }

    /// As [`Inventory::users_of`], for a device that was found.
    pub fn users_of_device(&self, device: &BlockDevice) -> Vec<&BootEnvironment> {
        self.users_where(|node| match self.devices.by_node(node) {
            Some(other) => other.number == device.number,
            None => node == device.node,
        })
    }

    fn users_where(&self, is: impl Fn(&Path) -> bool) -> Vec<&BootEnvironment> {
        // Of several devices that match, each may be the one that the BE mounts.
        let may_be = |f: &FileSystemUse| {
            f.device.is_none() && self.devices.lookup(&f.spec).iter().any(|device| is(&device.node))
        };
        let uses = |e: &BootEnvironment| match e.is_visitor(&self.devices) {
            true => is(&e.root.device),
            false => {
                e.named_devices().any(|device| is(device))
                    || !e.is_unfinished() && e.file_systems.iter().any(may_be)
            }
        };
        let mut users: Vec<_> = self.environments.iter().filter(|e| uses(e)).collect();
        users.sort_by_key(|e| !is(&e.root.device));
        users
    }

    /// The BE that owns a device: the first of [`Inventory::users_of`].
    pub fn owner_of(&self, node: &Path) -> Option<&BootEnvironment> {
        self.users_of(node).into_iter().next()
    }

    /// The EFI system partitions.
    pub fn esps(&self) -> impl Iterator<Item = &BlockDevice> {
        self.devices.esps()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Descriptor;

    #[test]
    fn who_names_one_that_is_not_there_learns_what_could_not_be_read() {
        let mut inventory = Inventory::default();
        let said = |inventory: &Inventory| inventory.find("second").unwrap_err().to_string();
        assert!(said(&inventory).ends_with("none was found on any disk"));
        inventory.environments.push(BootEnvironment::empty(Path::new("/dev/vda1")));
        inventory.warnings = vec!["the file system on /dev/vda2 was not read: busy".into()];
        assert!(said(&inventory).ends_with("; the file system on /dev/vda2 was not read: busy"));
    }

    #[test]
    fn an_id_names_the_one_that_has_it_and_two_are_ambiguous() {
        let mut inventory = Inventory::default();
        let descriptor = Descriptor::new("second".parse().unwrap(), None);
        let id = descriptor.id;
        let add = |inventory: &mut Inventory, node: &str| {
            let mut found = BootEnvironment::empty(Path::new(node));
            found.descriptor = Some(descriptor.clone());
            inventory.environments.push(found);
        };
        inventory.environments.push(BootEnvironment::empty(Path::new("/dev/vda1")));
        assert!(matches!(inventory.find_by_id(id), Err(Error::Usage(_))));
        add(&mut inventory, "/dev/vda2");
        for found in [inventory.find_by_id(id), inventory.find(&id.to_string())] {
            assert_eq!(found.unwrap().root.device, Path::new("/dev/vda2"));
        }
        add(&mut inventory, "/dev/sdb1");
        for found in [inventory.find_by_id(id), inventory.find(&id.to_string())] {
            assert!(matches!(found, Err(Error::Refused(Refusal::Ambiguous { .. }))));
        }
    }
}
