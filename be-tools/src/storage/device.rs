//! The block devices that the kernel lists in sysfs, with their content.

pub(crate) mod array;
mod attribute;
mod block_device;
pub(crate) mod contents;
mod sysfs;
mod udev;

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
    /// What a node is decides, not what it is called.
    pub fn by_node(&self, node: &Path) -> Option<&BlockDevice> {
        match DeviceNumber::of_node(node) {
            Some(number) => self.by_number(number),
            None => self.0.iter().find(|d| d.node == node),
        }
    }

    /// The UUID of the content of a device; `None` if there is no such device, or no UUID.
    pub fn uuid_on(&self, node: &Path) -> Option<String> {
        Some(self.by_node(node)?.super_block()?.uuid.to_string())
    }

    /// All devices that match a kernel name, a path, `UUID=`, `PARTUUID=`, `LABEL=`, `PARTLABEL=`,
    /// or `vg/lv`. The symlinks of udev in `/dev/disk/by-uuid` and so on count as the tags that they
    /// are made from: where several devices match, the symlink leads to any of them, and without
    /// udev there is none. A file system that spans several devices matches once.
    pub fn lookup(&self, reference: &str) -> Vec<&BlockDevice> {
        if let Some((tag, value)) = udev::tag_of(Path::new(reference)) {
            let found = self.by_tag(tag, &value);
            if !found.is_empty() {
                return found;
            }
        }
        match reference.split_once('=') {
            Some((tag, value)) => self.by_tag(tag, value.trim_matches('"')),
            None => self.by_path_or_name(reference).into_iter().collect(),
        }
    }

    fn by_tag(&self, tag: &str, value: &str) -> Vec<&BlockDevice> {
        let holds = |d: &BlockDevice, test: &dyn Fn(&SuperBlock) -> bool| {
            d.super_block().is_some_and(|s| {
                !s.kind.is_table() && !matches!(s.kind, Kind::MdRaid | Kind::Lvm) && test(s)
            })
        };
        let part = |d: &BlockDevice, test: &dyn Fn(&PartitionInfo) -> bool| {
            d.partition.as_ref().is_some_and(test)
        };
        let test: &dyn Fn(&BlockDevice) -> bool = match tag {
            _ if value.is_empty() => &|_| false,
            "UUID" => &|d| holds(d, &|s| s.uuid.eq_ignore_ascii_case(value)),
            "LABEL" => &|d| holds(d, &|s| s.label == value),
            "PARTUUID" => &|d| part(d, &|p| p.part_uuid.eq_ignore_ascii_case(value)),
            "PARTLABEL" => &|d| part(d, &|p| p.name == value),
            _ => &|_| false,
        };
        let mut found = self.filter(test);
        self.keep_upper(&mut found);
        if array::is_one_array(&found) {
            found.truncate(1);
        }
        found
    }

    /// Removes the devices on which others of them are stacked: each path to a multipath disk has
    /// the content of the disk.
    fn keep_upper(&self, found: &mut Vec<&BlockDevice>) {
        let below: Vec<&str> = found.iter().copied().flat_map(|d| self.all_below(d)).collect();
        found.retain(|d| !below.contains(&d.name.as_str()) && !below.contains(&d.disk.as_str()));
    }

    /// The kernel names of the devices under a stacked one.
    fn all_below<'a>(&'a self, device: &'a BlockDevice) -> Vec<&'a str> {
        let mut names: Vec<&str> = device.slaves.iter().map(String::as_str).collect();
        let mut next = 0;
        // Each name is visited once, so that a loop in a hostile sysfs ends.
        while let Some(device) = names.get(next).map(|name| self.by_name(name)) {
            next += 1;
            for slave in device.iter().flat_map(|d| &d.slaves) {
                if !names.contains(&slave.as_str()) {
                    names.push(slave);
                }
            }
        }
        names
    }

    /// Refuses a device field of fstab(5) that several devices match: it names none of them.
    ///
    /// # Errors
    /// [`Refusal::AmbiguousDevice`].
    pub fn refuse_ambiguous(&self, spec: &str) -> Result<(), Refusal> {
        match self.lookup(spec)[..] {
            [] | [_] => Ok(()),
            ref several => Err(Refusal::AmbiguousDevice {
                spec: spec.into(),
                devices: several.iter().map(|d| d.node.display().to_string()).collect(),
            }),
        }
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

    /// The disks of a device: for a volume, each disk under it.
    pub fn disks_of<'a>(&'a self, device: &'a BlockDevice) -> Vec<&'a BlockDevice> {
        let below = self.all_below(device).into_iter().filter_map(|name| self.by_name(name));
        let lowest = std::iter::once(device).chain(below).filter(|d| d.slaves.is_empty());
        lowest.map(|d| self.by_name(&d.disk).unwrap_or(d)).collect()
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
