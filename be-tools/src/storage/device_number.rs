//! Device numbers, which identify a device even when its name passes to another one.

use std::path::Path;

use serde::{Deserialize, Serialize};

/// The number of a device: `[major, minor]` in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u32, u32)", into = "(u32, u32)")]
pub struct DeviceNumber {
    /// The number of the driver; 0 for an anonymous device, such as that of a btrfs.
    pub major: u32,
    /// The number among the driver's devices.
    pub minor: u32,
}

impl DeviceNumber {
    /// The number of the block device at `node`, symlinks followed; `None` for anything else.
    pub(crate) fn of_node(node: &Path) -> Option<Self> {
        let stat = rustix::fs::stat(node).ok()?;
        rustix::fs::FileType::from_raw_mode(stat.st_mode)
            .is_block_device()
            .then(|| Self::from_raw(stat.st_rdev))
    }

    /// The number as stat(2) encodes it.
    pub(crate) fn from_raw(number: u64) -> Self {
        DeviceNumber { major: rustix::fs::major(number), minor: rustix::fs::minor(number) }
    }
}

impl From<(u32, u32)> for DeviceNumber {
    fn from((major, minor): (u32, u32)) -> Self {
        DeviceNumber { major, minor }
    }
}

impl From<DeviceNumber> for (u32, u32) {
    fn from(number: DeviceNumber) -> Self {
        (number.major, number.minor)
    }
}
