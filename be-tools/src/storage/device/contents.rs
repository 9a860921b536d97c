//! Probing a device: done by a worker, because a device that fails may never answer
//! (docs/design.md, invariant 7).

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::attribute::{clean, read};
use super::block_device::BlockDevice;
use crate::storage::device_number::DeviceNumber;
use crate::storage::partitions::{self, Table};
use crate::storage::probe::{Content, Kind, OpenDevice, probe};
use crate::workers::{Answer, Question};

/// How long a device may take to answer. A sleeping disk needs up to 15 seconds to spin up.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A device to probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProbeRequest {
    node: PathBuf,
    number: DeviceNumber,
    size: u64,
    logical_block_size: u32,
    /// The kernel name of its disk.
    disk: String,
    /// Its entry in `/sys/class/block`, if it is a whole disk.
    entry: Option<PathBuf>,
}

/// What was read from a device.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ProbeResult {
    pub(super) content: Content,
    /// For a whole disk only.
    pub(super) disk: Option<DiskDetails>,
}

/// What only a whole disk has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskDetails {
    pub(super) serial: String,
    pub(super) table: Option<Table>,
}

impl ProbeRequest {
    /// `class` is `/sys/class/block`.
    pub(super) fn of(device: &BlockDevice, class: &Path) -> Self {
        ProbeRequest {
            node: device.node.clone(),
            number: device.number,
            size: device.size,
            logical_block_size: device.logical_block_size,
            disk: device.disk.clone(),
            entry: device.is_whole_disk().then(|| class.join(&device.name)),
        }
    }

    pub(super) fn is_of_same_disk(&self, other: &Self) -> bool {
        self.disk == other.disk
    }

    fn open(&self) -> std::io::Result<OpenDevice> {
        // NONBLOCK: an optical drive without a disc must not wait for one.
        let file =
            File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&self.node)?;
        self.refuse_other(&file)?;
        Ok(OpenDevice { file, size: self.size })
    }

    /// Refuses a node that is not that of the device with this name in sysfs: in a static /dev, or
    /// without udev, a name may have stayed with a number that another device has now.
    fn refuse_other(&self, opened: &File) -> std::io::Result<()> {
        let found = rustix::fs::fstat(opened)?;
        let is_device = rustix::fs::FileType::from_raw_mode(found.st_mode).is_block_device();
        // The devices of a simulated machine are regular files.
        let is_right = if is_device {
            DeviceNumber::from_raw(found.st_rdev) == self.number
        } else {
            cfg!(test)
        };
        if is_right { Ok(()) } else { Err(std::io::Error::other("its node is another device's")) }
    }

    fn table(&self, opened: &OpenDevice, content: &Content) -> Option<Table> {
        let kind = content.kind()?;
        // A hybrid ISO has a partition table too.
        (kind.is_table() || kind == Kind::Iso9660)
            .then(|| partitions::read(opened, self.logical_block_size))
            .flatten()
    }
}

impl Question for ProbeRequest {
    const KIND: &'static str = "probe";
    type Finding = ProbeResult;

    fn answer(&self) -> Answer<ProbeResult> {
        let opened = self.open();
        let content = match &opened {
            Ok(opened) => probe(opened),
            Err(error) => Content::Unreadable(error.to_string()),
        };
        let disk = self.entry.as_ref().map(|entry| DiskDetails {
            serial: entry.canonicalize().map(|dir| serial(&dir)).unwrap_or_default(),
            table: opened.ok().and_then(|opened| self.table(&opened, &content)),
        });
        Ok(ProbeResult { content, disk })
    }
}

/// The serial number of a disk. Reading it may block, since the driver of a virtio disk asks the
/// disk.
fn serial(disk_dir: &Path) -> String {
    let direct = ["serial", "device/serial", "device/cid"]
        .iter()
        .find_map(|file| read(&disk_dir.join(file)));
    // SPC-4 7.8.12: four bytes of header, then the serial number.
    let vpd = || {
        let page = std::fs::read(disk_dir.join("device/vpd_pg80")).ok()?;
        Some(clean(page.get(4..)?))
    };
    // The serial number of a USB device is some directories above.
    let usb = || {
        disk_dir
            .ancestors()
            .take(12)
            .find_map(|dir| dir.join("idVendor").exists().then(|| read(&dir.join("serial")))?)
    };
    direct
        .filter(|s| !s.is_empty())
        .or_else(vpd)
        .filter(|s| !s.is_empty())
        .or_else(usb)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{LoopDevice, image, is_root};

    #[test]
    fn a_node_of_another_device_is_not_read() {
        if !is_root() {
            return;
        }
        let files = [image(16 << 20), image(16 << 20)];
        let devices = files.each_ref().map(|file| LoopDevice::attach(file.path()));
        let [own, other] = devices.each_ref().map(LoopDevice::device);
        let class = Path::new("/sys/class/block");
        assert!(ProbeRequest::of(&own, class).open().is_ok());
        let renamed = BlockDevice { node: own.node.clone(), ..other };
        let why = ProbeRequest::of(&renamed, class).open().err().unwrap().to_string();
        assert!(why.contains("another device"), "{why}");
    }
}
