//! The EFI system partition of a BE's loader, and mounting it.

pub(crate) mod running;
pub(crate) mod silence;

use std::path::PathBuf;

use boot::efi::DevicePath;
use boot::esp::Esp;
use uuid::Uuid;

use crate::environment::BootEnvironment;
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::mounts::{self, Mounts};
use crate::storage::volume::{Access, FileSystem, VisibleMount, Volume};

/// Where systems mount their ESP, below the root directory.
const MOUNT_POINTS: [&str; 3] = ["boot/efi", "efi", "boot"];

/// An EFI system partition on a GPT disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EspLocation {
    /// The device node.
    pub device: PathBuf,
    /// The device node of its disk.
    pub disk: PathBuf,
    /// The partition number, from 1.
    pub partition: u32,
    /// The first logical block.
    pub start_lba: u64,
    /// The number of logical blocks.
    pub size_lba: u64,
    /// The partition's GUID.
    pub partuuid: Uuid,
}

impl EspLocation {
    /// The ESP on a device; `None` if it is not an ESP, has no PARTUUID, or does not hold a FAT.
    pub fn of(devices: &Devices, device: &BlockDevice) -> Option<Self> {
        let partition = device.partition.as_ref().filter(|p| p.is_esp())?;
        device.super_block().filter(|s| s.kind.name() == "vfat")?;
        Some(EspLocation {
            device: device.node.clone(),
            disk: devices.disk_of(device).node.clone(),
            partition: partition.number,
            start_lba: partition.start_lba,
            size_lba: partition.size_lba,
            partuuid: partition.guid()?,
        })
    }

    /// All EFI system partitions.
    pub fn all(devices: &Devices) -> Vec<Self> {
        devices.esps().filter_map(|d| Self::of(devices, d)).collect()
    }

    /// The EFI system partitions with this PARTUUID. There are several if a disk was copied block
    /// by block.
    pub fn all_with(devices: &Devices, partuuid: Uuid) -> Vec<Self> {
        let mut found = Self::all(devices);
        found.retain(|e| e.partuuid == partuuid);
        found
    }

    /// The ESP that a boot entry names; `None` if it does not exist.
    ///
    /// # Errors
    /// [`Refusal::AmbiguousEsp`]
    pub fn by_partuuid(devices: &Devices, partuuid: Uuid) -> Result<Option<Self>> {
        let Some(found) = Self::all_with(devices, partuuid).pop() else { return Ok(None) };
        found.refuse_ambiguous(devices).map(|()| Some(found))
    }

    /// The partitions that have its PARTUUID, itself among them. The firmware looks at neither
    /// their type nor their content when it searches the one that a boot entry names (UEFI 2.10,
    /// 3.1.2).
    pub fn namesakes(&self, devices: &Devices) -> Vec<String> {
        let found = devices.lookup(&format!("PARTUUID={}", self.partuuid));
        found.iter().map(|device| device.node.display().to_string()).collect()
    }

    /// Refuses an ESP whose PARTUUID another partition has: a boot entry cannot name it.
    ///
    /// # Errors
    /// [`Refusal::AmbiguousEsp`]
    pub fn refuse_ambiguous(&self, devices: &Devices) -> Result<()> {
        let (partuuid, devices) = (self.partuuid.to_string(), self.namesakes(devices));
        match devices.len() {
            0 | 1 => Ok(()),
            _ => Err(Refusal::AmbiguousEsp { partuuid, devices }.into()),
        }
    }

    /// Whether the running system has it mounted where systems mount their ESP.
    fn is_mounted(&self, host: &Host, devices: &Devices, mounts: &Mounts) -> bool {
        let device = devices.by_node(&self.device);
        let is_here = |place: &&str| {
            let mount = mounts.at(&host.root.join(place));
            mount.zip(device).is_some_and(|(mount, device)| mount.is_of(device))
        };
        MOUNT_POINTS.iter().any(is_here)
    }

    /// The ESP for a new loader of `target`: that of the disk of its root, else that of the running
    /// BE, else the only one on a disk that is not removable.
    ///
    /// # Errors
    /// [`Refusal::NoEsp`]
    pub fn choose(
        host: &Host,
        devices: &Devices,
        target: &BootEnvironment,
        running: Option<&BootEnvironment>,
    ) -> Result<Self> {
        let all = Self::all(devices);
        let on_disk = |disk: &PathBuf| all.iter().find(|e| e.disk == *disk).cloned();
        let mounted = || {
            let mounts = Mounts::read(host).ok()?;
            all.iter().find(|esp| esp.is_mounted(host, devices, &mounts)).cloned()
        };
        let on_fixed_disk = || {
            let is_portable =
                |e: &&EspLocation| devices.by_node(&e.disk).is_none_or(BlockDevice::is_portable);
            let fixed: Vec<_> = all.iter().filter(|e| !is_portable(e)).collect();
            if let [only] = fixed[..] { Some(only.clone()) } else { None }
        };
        on_disk(&target.root.disk)
            .or_else(|| running.and_then(|r| on_disk(&r.root.disk)))
            .or_else(|| running.and_then(|_| mounted()))
            .or_else(on_fixed_disk)
            .ok_or_else(|| {
                let disks = std::iter::once(&target.root).chain(running.map(|r| &r.root));
                let mut searched: Vec<String> =
                    disks.map(|r| r.disk.display().to_string()).collect();
                searched.dedup();
                Refusal::NoEsp { searched: searched.join(" and ") }.into()
            })
    }

    /// The plan's note if the loader is not on the disk of the BE.
    pub fn note(&self, target: &BootEnvironment) -> Option<String> {
        (self.disk != target.root.disk).then(|| {
            format!(
                "{} has no EFI system partition: the loader of '{}' is written to {}, and without \
                the disk {} it cannot be started",
                target.root.disk.display(),
                target.name(),
                self.device.display(),
                self.disk.display()
            )
        })
    }

    /// The device path of a file on it, for a boot entry.
    pub fn device_path(&self, file: &str) -> DevicePath {
        DevicePath::hard_drive_file(
            self.partition,
            self.start_lba,
            self.size_lba,
            self.partuuid,
            file,
        )
    }

    /// The ESP, mounted for writing: where it is mounted already, else on a temporary directory for
    /// as long as the handle lives.
    ///
    /// # Errors
    /// As mount(2).
    pub fn mount(&self, host: &Host, devices: &Devices) -> Result<MountedEsp> {
        self.mount_for(host, devices, Access::Use("umask=0077"))
    }

    /// As [`EspLocation::mount`], but only for reading: nothing on the device changes.
    ///
    /// # Errors
    /// As mount(2).
    pub fn mount_read_only(&self, host: &Host, devices: &Devices) -> Result<MountedEsp> {
        self.mount_for(host, devices, Access::Look)
    }

    /// The ESP that a boot entry names, mounted for reading; `None`, with a warning in the log, if
    /// it cannot be.
    pub fn try_read(host: &Host, devices: &Devices, partuuid: Uuid) -> Option<MountedEsp> {
        Self::by_partuuid(devices, partuuid)
            .and_then(|found| found.map(|e| e.mount_read_only(host, devices)).transpose())
            .unwrap_or_else(|e| {
                log::warn!("{e}");
                None
            })
    }

    fn mount_for(&self, host: &Host, devices: &Devices, access: Access<'_>) -> Result<MountedEsp> {
        let device = devices.by_node(&self.device).ok_or_else(|| {
            Error::Failed(format!("{} is gone: connect that disk again", self.device.display()))
        })?;
        let file_system = FileSystem::found(Volume::of(devices, device))?;
        let mounts = Mounts::read(host)?;
        // The ESP of a simulated machine is a directory, which its mount table names.
        #[cfg(test)]
        if host.is_simulated()
            && let Some(mount) = mounts.of(device).next()
        {
            let esp = Esp::new(mount.mount_point.clone());
            return Ok(MountedEsp { esp, mount: None, _in_use: None });
        }
        silence::refuse(host, &file_system)?;
        let for_writing = !matches!(access, Access::Look);
        if let Some(visible) = file_system.mount_point(&mounts, for_writing)? {
            let esp = Esp::new(visible.mount_point.clone());
            return Ok(MountedEsp { esp, mount: None, _in_use: Some(visible) });
        }
        self.mount_on_temporary_directory(host, |directory| {
            file_system.show(&mounts, access, directory)
        })
    }

    fn mount_on_temporary_directory(
        &self,
        host: &Host,
        mount: impl FnOnce(&std::path::Path) -> Result<mounts::Mounted>,
    ) -> Result<MountedEsp> {
        let name = self.device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let directory = host.work_directory(&format!("esp-{name}-{thread}"))?;
        match mount(&directory) {
            Ok(mounted) => Ok(MountedEsp {
                esp: Esp::new(directory.clone()),
                mount: Some(TemporaryMount { mounted: Some(mounted), directory }),
                _in_use: None,
            }),
            Err(e) => {
                let _ = std::fs::remove_dir(&directory);
                Err(e)
            }
        }
    }
}

/// A mounted ESP. A mount that was made for it is removed when it is dropped.
#[derive(Debug)]
pub struct MountedEsp {
    esp: Esp,
    mount: Option<TemporaryMount>,
    /// Keeps another program from unmounting the ESP: what is written afterwards would be on the
    /// root file system.
    _in_use: Option<VisibleMount>,
}

impl MountedEsp {
    /// The files on it.
    pub fn esp(&self) -> &Esp {
        &self.esp
    }

    /// Unmounts the ESP if it was mounted for this handle, so that everything is on the device.
    ///
    /// # Errors
    /// As umount2(2).
    pub fn close(mut self) -> Result<()> {
        let Some(mut own) = self.mount.take() else { return Ok(()) };
        own.mounted.take().map_or(Ok(()), mounts::Mounted::unmount)
    }
}

#[derive(Debug)]
struct TemporaryMount {
    mounted: Option<mounts::Mounted>,
    directory: PathBuf,
}

impl Drop for TemporaryMount {
    fn drop(&mut self) {
        drop(self.mounted.take());
        let _ = std::fs::remove_dir(&self.directory);
    }
}

/// Wraps an error of [`boot::esp`] with what was being done.
pub(crate) fn esp_error(doing: &str) -> impl FnOnce(boot::esp::Error) -> Error + '_ {
    move |e| Error::boot(doing, e)
}
