//! Where the root of a BE lay when it was scheduled. An id is a file on a disk, and any disk may
//! carry it.

use std::fmt::{self, Display};

use serde::{Deserialize, Serialize};

use crate::environment::{BootEnvironment, Inventory};

/// What identifies the device of a root file system, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// The UUID of the file system.
    pub uuid: String,
    /// The UUID in the partition table, if it lies on a partition.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part_uuid: String,
    /// The serial number of its disk, if that has one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub serial: String,
    /// Whether its disk is removable.
    #[serde(default)]
    pub removable: bool,
}

impl Location {
    /// Where a BE is.
    pub(super) fn of(inventory: &Inventory, environment: &BootEnvironment) -> Self {
        let devices = &inventory.devices;
        let Some(device) = devices.by_node(&environment.root.device) else {
            return Location { uuid: environment.root.uuid.clone(), ..Location::default() };
        };
        Location {
            uuid: environment.root.uuid.clone(),
            part_uuid: device.partition.as_ref().map(|p| p.part_uuid.clone()).unwrap_or_default(),
            serial: devices.disk_of(device).serial.clone(),
            removable: environment.is_on_portable_disk(devices),
        }
    }
}

impl Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file system {}", self.uuid)?;
        for (what, value) in [("partition", &self.part_uuid), ("disk with serial", &self.serial)] {
            if !value.is_empty() {
                write!(f, " on the {what} {value}")?;
            }
        }
        Ok(())
    }
}
