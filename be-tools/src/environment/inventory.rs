//! What was found on the disks of this machine, and how a command line names it.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::boot_environment::BootEnvironment;
use super::name::Name;
use crate::error::{Error, Refusal, Result};
use crate::storage::device::{BlockDevice, Devices};

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
        let mounts_it = |e: &BootEnvironment| {
            e.file_systems.iter().any(|f| f.device.as_deref().is_some_and(&is))
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
