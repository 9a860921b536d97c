//! Checks that a device may be written to, because nothing uses it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::device::{BlockDevice, Devices};
use super::device_number::DeviceNumber;
use super::mounts::Mounts;
use super::partitions;
use super::probe::Kind;
use super::retry::{self, BUSY_TIMEOUT, retry};
use super::swap::{self, SwapUse};
use crate::error::{Refusal, Result};
use crate::host::Host;

/// The mounts and the swap areas of this machine.
#[derive(Clone, Debug, Default)]
pub struct Usage {
    /// The mount table.
    pub mounts: Mounts,
    /// The swap areas in use.
    pub swaps: Vec<SwapUse>,
}

impl Usage {
    /// Reads the mount table and the swap areas.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn read(host: &Host) -> Result<Self> {
        Ok(Usage { mounts: Mounts::read(host)?, swaps: swap::read(host)? })
    }

    /// Refuses a device that is mounted, used as swap, or part of another device. Returns the first
    /// reason.
    ///
    /// # Errors
    /// [`Refusal::Mounted`], [`Refusal::SwapInUse`] or [`Refusal::Held`].
    pub fn refuse_used(&self, device: &BlockDevice) -> Result<(), Refusal> {
        let name = || device.node.display().to_string();
        if let Some(mount) = self.mounts.of(device).next() {
            return Err(Refusal::Mounted {
                device: name(),
                mountpoint: mount.mount_point.display().to_string(),
            });
        }
        if self
            .swaps
            .iter()
            .any(|s| s.path == device.node || DeviceNumber::of_node(&s.path) == Some(device.number))
        {
            return Err(Refusal::SwapInUse { device: name() });
        }
        if let Some(holder) = device.holders.first() {
            return Err(Refusal::Held { device: name(), holder: holder.clone() });
        }
        Ok(())
    }

    /// Refuses a device on which no file system can be made: one that is in use, read-only, or a
    /// disk with partitions.
    ///
    /// # Errors
    /// Those of [`Usage::refuse_used`], and [`Refusal::PartitionTable`].
    pub fn refuse_target(&self, devices: &Devices, device: &BlockDevice) -> Result<(), Refusal> {
        self.refuse_used(device)?;
        let parts: Vec<String> =
            devices.partitions_of(device).map(|p| p.node.display().to_string()).collect();
        let table = match device.content.kind() {
            Some(Kind::Gpt) => Some("GPT"),
            Some(Kind::Mbr) => Some("MBR"),
            _ if device.is_whole_disk() && !parts.is_empty() => Some("partition"),
            _ => None,
        };
        if let Some(table) = table {
            let partitions =
                if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
            return Err(Refusal::PartitionTable {
                device: device.node.display().to_string(),
                table: table.into(),
                partitions,
            });
        }
        if device.is_esp() {
            return Err(Refusal::Other(format!(
                "{} is an EFI system partition, which holds the loaders of every system of this \
                machine: name another device",
                device.node.display()
            )));
        }
        if device.partition.as_ref().and_then(|p| p.kind).is_some_and(is_extended) {
            return Err(Refusal::Other(format!(
                "{} is an extended partition: name a logical partition in it",
                device.node.display()
            )));
        }
        if device.read_only {
            return Err(Refusal::Other(format!(
                "{} is read-only: name another device, or run `blockdev --setrw` if its hardware \
                is not read-only",
                device.node.display()
            )));
        }
        Ok(())
    }
}

fn is_extended(kind: partitions::PartitionType) -> bool {
    matches!(kind, partitions::PartitionType::Mbr(0x05 | 0x0f | 0x85))
}

/// Checks that a device is not in use in any mount namespace. Waits for a device that is busy for a
/// moment.
///
/// # Errors
/// As open(2): `EBUSY` if the device is in use.
pub fn refuse_busy(device: &Path) -> std::io::Result<()> {
    open_exclusively(device, File::options().read(true)).map(drop)
}

/// Whether a device is in use at this moment, in any mount namespace.
pub(super) fn is_busy(device: &Path) -> bool {
    let opened = File::options().read(true).custom_flags(nix::libc::O_EXCL).open(device);
    opened.is_err_and(|error| retry::is_busy(&error))
}

fn open_exclusively(device: &Path, options: &mut OpenOptions) -> std::io::Result<File> {
    let options = options.custom_flags(nix::libc::O_EXCL);
    retry(BUSY_TIMEOUT, retry::is_busy, || options.open(device))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::storage::hold::Holds;
    use crate::storage::testing::{LoopDevice, image, in_namespace, is_root, mount_target};
    use crate::tool::Tool;

    #[test]
    fn a_mounted_device_is_refused_here_and_from_another_namespace() {
        if !is_root() {
            return;
        }
        let file = image(64 << 20);
        Tool::new("mke2fs").args(["-qFt", "ext4"]).arg(file.path()).run().unwrap();
        let node = LoopDevice::attach(file.path());
        let devices = Devices::scan(&Host::local()).unwrap();
        let device = devices.by_node(&node.node).unwrap();
        let (claimed, refusal) = in_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let _mounted = mount_target(&node.node, "ext4", dir.path()).unwrap();
            let claim = || Holds::take([device]).and_then(|holds| holds.claim());
            let elsewhere = std::thread::scope(|s| s.spawn(claim).join().unwrap());
            (elsewhere, Usage::read(&Host::local()).unwrap().refuse_used(device).unwrap_err())
        });
        assert!(matches!(refusal, Refusal::Mounted { .. }), "{refusal}");
        assert!(matches!(claimed, Err(Error::Refused(_))), "{claimed:?}");
        Usage::read(&Host::local()).unwrap().refuse_target(&devices, device).unwrap();
        Holds::take([&node.device()]).unwrap().claim().unwrap();
    }

    #[test]
    fn a_disk_with_a_table_is_refused_with_its_kind() {
        if !is_root() {
            return;
        }
        let file = image(64 << 20);
        Tool::new("sgdisk").arg("-n1:2048:+1M").arg(file.path()).run().unwrap();
        let node = LoopDevice::attach(file.path());
        let devices = Devices::scan(&Host::local()).unwrap();
        let refusal = Usage::default()
            .refuse_target(&devices, devices.by_node(&node.node).unwrap())
            .unwrap_err();
        assert!(
            matches!(&refusal, Refusal::PartitionTable { table, .. } if table == "GPT"),
            "{refusal}"
        );
    }
}
