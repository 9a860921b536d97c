//! One block device, with its content.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Doing, Result};
use crate::plan::PlannedDevice;
use crate::storage::device_number::DeviceNumber;
use crate::storage::partitions::PartitionInfo;
use crate::storage::probe::{Content, OpenDevice, SuperBlock, probe};
use crate::sys;

/// A block device: a disk, a partition, a loop device with a file, or a volume of the device mapper
/// or md.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockDevice {
    /// The kernel name, such as `vda2`.
    pub name: String,
    /// The device node; `/dev/mapper/NAME` for a volume of the device mapper.
    pub node: PathBuf,
    /// The device number.
    pub number: DeviceNumber,
    /// The disk sequence number, which is new for each disk and each medium that the kernel sees
    /// (`diskseq` in sysfs-block); that of its disk if it is a partition. `None` before Linux 5.15.
    pub sequence: Option<u64>,
    /// The size in bytes.
    pub size: u64,
    /// The kernel refuses writes.
    pub read_only: bool,
    /// Its disk is removable: the medium may change, as in a card reader. Most disks on USB are not.
    pub removable: bool,
    /// The kernel name of its disk; its own name if it is a disk.
    pub disk: String,
    /// The model of its disk, or a description if it has none.
    pub model: String,
    /// The serial number of its disk; empty if it has none.
    pub serial: String,
    /// How its disk is attached: `virtio`, `nvme`, `ata`, `usb`, `scsi`, `mmc`, `loop`, `dm`, `md`,
    /// or empty.
    pub transport: String,
    /// The size of a logical block in bytes.
    pub logical_block_size: u32,
    /// Its entry in the partition table, if it is a partition.
    pub partition: Option<PartitionInfo>,
    /// The kernel names of the devices that use it.
    pub holders: Vec<String>,
    /// The kernel names of the devices that it uses.
    pub slaves: Vec<String>,
    /// Its name in the device mapper, such as `vg-root`.
    pub dm_name: Option<String>,
    /// Its content.
    pub content: Content,
}

impl BlockDevice {
    /// Whether its disk may come from another machine: one whose medium changes, or one on USB.
    pub fn is_portable(&self) -> bool {
        self.removable || self.transport == "usb"
    }

    /// A device that no machine has, for tests.
    #[cfg(test)]
    pub(crate) fn example(name: &str, found: SuperBlock) -> Self {
        BlockDevice {
            size: 1 << 30,
            disk: name.trim_end_matches(|c: char| c.is_ascii_digit()).into(),
            content: Content::Known(found),
            ..Self::bare(&Path::new("/dev").join(name))
        }
    }

    /// A device of which only the node is known.
    pub fn bare(node: &Path) -> Self {
        let name = node.file_name().unwrap_or_default().to_string_lossy().into_owned();
        BlockDevice {
            node: node.to_owned(),
            number: DeviceNumber::default(),
            sequence: None,
            size: 0,
            read_only: false,
            removable: false,
            disk: name.clone(),
            name,
            model: String::new(),
            serial: String::new(),
            transport: String::new(),
            logical_block_size: 512,
            partition: None,
            holders: Vec::new(),
            slaves: Vec::new(),
            dm_name: None,
            content: Content::Unknown,
        }
    }

    /// The device that a name leads to now, with its content, without a scan of the others.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn at(node: &Path) -> Result<Self> {
        let opened = File::open(node).and_then(OpenDevice::new).at("opening", node)?;
        let stat = rustix::fs::fstat(&opened.file).at("reading the device number of", node)?;
        Ok(BlockDevice {
            number: DeviceNumber::from_raw(stat.st_rdev),
            sequence: sys::disk_sequence(&opened.file),
            size: opened.size,
            content: probe(&opened),
            ..Self::bare(node)
        })
    }

    /// Whether it is not a partition.
    pub fn is_whole_disk(&self) -> bool {
        self.disk == self.name
    }

    /// Whether it is an EFI system partition.
    pub fn is_esp(&self) -> bool {
        self.partition.as_ref().is_some_and(PartitionInfo::is_esp)
    }

    /// Its super block, if one was recognised.
    pub fn super_block(&self) -> Option<&SuperBlock> {
        self.content.super_block()
    }

    /// Its line in a plan: what it is, what it holds, what becomes of it.
    pub fn planned(&self, becomes: impl Into<String>) -> PlannedDevice {
        PlannedDevice {
            device: self.node.display().to_string(),
            model: self.model.clone(),
            serial: self.serial.clone(),
            size: self.size,
            holds: self.content.description(),
            becomes: becomes.into(),
            environment: None,
            erased: true,
            parent: None,
        }
    }

    /// The DEVICE of `NAME@DEVICE`: the name of the volume if it is one, else the kernel name.
    pub fn short_name(&self) -> &str {
        self.dm_name.as_deref().unwrap_or(&self.name)
    }
}
