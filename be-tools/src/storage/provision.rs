//! The place for a new file system, which a plan may have to make first: a partition, a logical
//! volume, a subvolume, a mapping.

use super::volume::Volume;
use crate::plan::PlannedDevice;

/// The place for a new file system, which a plan may have to make first.
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
    /// The volume, once it has been made.
    pub fn volume(&self) -> &Volume {
        match self {
            Provision::Existing(volume) => volume,
        }
    }

    /// A place on a device that no machine has, for tests.
    #[cfg(test)]
    pub(crate) fn example(node: &str) -> Self {
        use super::device::BlockDevice;
        let device = BlockDevice::bare(std::path::Path::new(node)).into();
        Provision::Existing(Volume {
            device,
            subvolume: None,
            stack: super::stack::Stack::default(),
        })
    }

    /// Its line in a plan.
    pub fn planned(&self, becomes: impl Into<String>) -> PlannedDevice {
        match self {
            Provision::Existing(volume) => volume.device.planned(becomes),
        }
    }
}
