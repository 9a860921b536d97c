//! Probing a device: done by a worker, because a device that fails may never answer
//! (docs/design.md, invariant 7).

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::attribute::{clean, read};
use super::block_device::BlockDevice;
use crate::storage::partitions::{self, Table};
use crate::storage::probe::{Content, Kind, OpenDevice, probe};
use crate::workers::{Answer, Question};

/// How long a device may take to answer. A sleeping disk needs up to 15 seconds to spin up.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// A device to probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProbeRequest {
    node: PathBuf,
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
        Ok(OpenDevice { file, size: self.size })
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
