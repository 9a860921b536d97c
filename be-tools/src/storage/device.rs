//! The block devices that the kernel lists in sysfs, with their content.

mod attribute;
mod block_device;
pub(crate) mod contents;
mod sysfs;

use std::path::Path;

use serde::Serialize;

pub use block_device::BlockDevice;

use super::device_number::DeviceNumber;
use super::partitions::PartitionInfo;
use super::probe::{Kind, SuperBlock};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::plan::PlannedDevice;

/// All block devices of the machine.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Devices(Vec<BlockDevice>);

impl Devices {
    /// Lists the devices and probes their content. A device that cannot be read is listed too.
    ///
    /// # Errors
    /// sysfs cannot be read.
    pub fn scan(host: &Host) -> Result<Self> {
        sysfs::scan(host).map(Devices)
    }

    /// All devices, disks before their partitions.
    pub fn iter(&self) -> impl Iterator<Item = &BlockDevice> {
        self.0.iter()
    }

    /// The device with this kernel name.
    pub fn by_name(&self, name: &str) -> Option<&BlockDevice> {
        self.0.iter().find(|d| d.name == name)
    }

    /// The device with this number.
    pub fn by_number(&self, number: DeviceNumber) -> Option<&BlockDevice> {
        self.0.iter().find(|d| d.number == number)
    }

    /// The device with this device node. Symlinks such as those in `/dev/disk/by-id` are followed.
    pub fn by_node(&self, node: &Path) -> Option<&BlockDevice> {
        let number = DeviceNumber::of_node(node);
        self.0.iter().find(|d| d.node == node || Some(d.number) == number)
    }

    /// The UUID of the content of a device; `None` if there is no such device, or no UUID.
    pub fn uuid_on(&self, node: &Path) -> Option<String> {
        Some(self.by_node(node)?.super_block()?.uuid.to_string())
    }

    /// All devices that match a kernel name, a path, `UUID=`, `PARTUUID=`, `LABEL=`, `PARTLABEL=`,
    /// or `vg/lv`. A file system that spans several devices matches once.
    pub fn lookup(&self, reference: &str) -> Vec<&BlockDevice> {
        let Some((tag, value)) = reference.split_once('=') else {
            return self.by_path_or_name(reference).into_iter().collect();
        };
        let value = value.trim_matches('"');
        let (uuid, ignore_case) = (value.to_owned(), value.to_ascii_lowercase());
        let holds = |d: &BlockDevice, test: &dyn Fn(&SuperBlock) -> bool| {
            d.super_block().is_some_and(|s| {
                !s.kind.is_table() && !matches!(s.kind, Kind::MdRaid | Kind::Lvm) && test(s)
            })
        };
        let part = |d: &BlockDevice, test: &dyn Fn(&PartitionInfo) -> bool| {
            d.partition.as_ref().is_some_and(test)
        };
        let mut found: Vec<&BlockDevice> = match tag {
            "UUID" => self
                .filter(|d| holds(d, &|s| s.uuid.eq_ignore_ascii_case(&uuid) && !uuid.is_empty())),
            "LABEL" => self.filter(|d| holds(d, &|s| s.label == value && !value.is_empty())),
            "PARTUUID" => {
                self.filter(|d| part(d, &|p| p.part_uuid == ignore_case && !value.is_empty()))
            }
            "PARTLABEL" => self.filter(|d| part(d, &|p| p.name == value && !value.is_empty())),
            _ => Vec::new(),
        };
        let spans =
            |d: &BlockDevice| d.super_block().filter(|s| s.devices > 1).map(|s| s.uuid.clone());
        if let Some(first) = found.first().and_then(|d| spans(d))
            && found.iter().all(|d| spans(d).as_ref() == Some(&first))
        {
            found.truncate(1);
        }
        found
    }

    fn filter(&self, test: impl Fn(&BlockDevice) -> bool) -> Vec<&BlockDevice> {
        self.0.iter().filter(|d| test(d)).collect()
    }

    fn by_path_or_name(&self, reference: &str) -> Option<&BlockDevice> {
        if reference.starts_with('/') {
            return self.by_node(Path::new(reference));
        }
        let dm_name = match reference.split_once('/') {
            Some((group, volume)) => {
                format!("{}-{}", group.replace('-', "--"), volume.replace('-', "--"))
            }
            None => reference.to_owned(),
        };
        self.by_name(reference)
            .or_else(|| self.0.iter().find(|d| d.dm_name.as_ref() == Some(&dm_name)))
    }

    /// The one device that matches `reference`, which is as for [`Devices::lookup`].
    ///
    /// # Errors
    /// [`Error::Usage`] if there is none, [`Refusal::Ambiguous`] if there are several.
    pub fn resolve(&self, reference: &str) -> Result<&BlockDevice> {
        match self.lookup(reference)[..] {
            [one] => Ok(one),
            [] => Err(Error::Usage(format!(
                "'{reference}' is not a block device of this machine: use a name from `lsblk`, a \
                path below /dev, UUID=, PARTUUID=, LABEL=, PARTLABEL= or vg/lv"
            ))),
            ref several => Err(Refusal::Ambiguous {
                name: reference.into(),
                candidates: several.iter().map(|d| d.node.display().to_string()).collect(),
            }
            .into()),
        }
    }

    /// The disk of a device; for a volume, the disk under it (the first one, if there are several).
    pub fn disk_of<'a>(&'a self, device: &'a BlockDevice) -> &'a BlockDevice {
        let mut here = device;
        // The limit ends a loop in a hostile sysfs.
        for _ in 0..16 {
            match here.slaves.first().and_then(|slave| self.by_name(slave)) {
                Some(below) => here = below,
                None => break,
            }
        }
        self.by_name(&here.disk).unwrap_or(here)
    }

    /// The line in a plan for a device node.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such device.
    pub fn planned(&self, node: &Path, becomes: &str) -> Result<PlannedDevice> {
        self.resolve(&node.to_string_lossy()).map(|device| device.planned(becomes))
    }

    /// The partitions of a disk, by number.
    pub fn partitions_of<'a>(
        &'a self,
        disk: &'a BlockDevice,
    ) -> impl Iterator<Item = &'a BlockDevice> {
        self.0.iter().filter(move |d| d.disk == disk.name && d.name != disk.name)
    }

    /// The EFI system partitions.
    pub fn esps(&self) -> impl Iterator<Item = &BlockDevice> {
        self.0.iter().filter(|d| d.is_esp())
    }
}

impl FromIterator<BlockDevice> for Devices {
    fn from_iter<I: IntoIterator<Item = BlockDevice>>(devices: I) -> Self {
        Devices(devices.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
