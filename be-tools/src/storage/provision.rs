//! The place for a new file system, which a plan may have to make first: a partition, a logical
//! volume, a subvolume, a mapping.

use std::path::Path;

use super::device::{BlockDevice, Devices};
use super::hold::{Hold, Holds};
use super::stack::Stack;
use super::volume::Volume;
use crate::error::Result;
use crate::plan::PlannedDevice;

/// The place for a new file system, which a plan may have to make first.
///
/// A plan asks what the place is, or will be: its node, its size, its layers, and which devices are
/// written to for it. Only a step, which runs when it has been made, asks for its volume and for
/// the hold to write through. So a new kind of place is a variant here and its own file.
///
/// Today it always exists. Planned are variants for places that do not exist yet, each with the
/// parent that its line in a plan names: `Partition` (of free space on a disk), `LogicalVolume` (of
/// a group), `Subvolume` and `Snapshot` (of a btrfs or a pool), `Directory` (of a file system), and
/// `Mapping` (LUKS over another provision).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provision {
    /// It exists already, and is erased or filled.
    Existing(Volume),
}

impl Provision {
    /// The place that a person names: today a device, by its node or a symlink to it.
    ///
    /// # Errors
    /// There is no device of this name, or several.
    pub fn find(devices: &Devices, name: &str) -> Result<Self> {
        Ok(Provision::Existing(Volume::of(devices, devices.resolve(name)?)))
    }

    /// The node of the device that it is or will be.
    pub fn node(&self) -> &Path {
        match self {
            Provision::Existing(volume) => volume.node(),
        }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Provision::Existing(volume) => volume.device.size,
        }
    }

    /// The size of its logical blocks in bytes.
    pub fn logical_block_size(&self) -> u32 {
        match self {
            Provision::Existing(volume) => volume.device.logical_block_size,
        }
    }

    /// The layers under it.
    pub fn stack(&self) -> &Stack {
        match self {
            Provision::Existing(volume) => &volume.stack,
        }
    }

    /// The device that exists already and is written to: the place itself, or what it is made from.
    /// It is examined before the plan and held from then on.
    pub fn base(&self) -> &BlockDevice {
        match self {
            Provision::Existing(volume) => &volume.device,
        }
    }

    /// The volume, for the steps that run when it has been made.
    pub fn volume(&self) -> &Volume {
        match self {
            Provision::Existing(volume) => volume,
        }
    }

    /// What its content is written through, for the steps that run when it has been made.
    ///
    /// # Errors
    /// It is not held.
    pub fn hold<'a>(&self, holds: &'a Holds) -> Result<&'a Hold> {
        holds.of(&self.volume().device)
    }

    /// A place on a device that no machine has, for tests.
    #[cfg(test)]
    pub(crate) fn example(node: &str) -> Self {
        let device = BlockDevice::bare(Path::new(node)).into();
        Provision::Existing(Volume { device, subvolume: None, stack: Stack::default() })
    }

    /// Its line in a plan.
    pub fn planned(&self, becomes: impl Into<String>) -> PlannedDevice {
        match self {
            Provision::Existing(volume) => volume.device.planned(becomes),
        }
    }
}
