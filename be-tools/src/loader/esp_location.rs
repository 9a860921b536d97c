//! Which EFI system partition a BE's loader lies on, and that partition mounted.

use std::path::PathBuf;

use boot::efi::DevicePath;
use boot::esp::Esp;
use uuid::Uuid;

use crate::environment::BootEnvironment;
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::mounts::{self, Mounts};
use crate::storage::volume::{Access, FileSystem, Volume};

/// An EFI system partition on a GPT disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EspLocation {
    /// Device node.
    pub device: PathBuf,
    /// Node of its disk.
    pub disk: PathBuf,
    /// Partition number, from 1.
    pub partition: u32,
    /// First logical block.
    pub start_lba: u64,
    /// Number of logical blocks.
    pub size_lba: u64,
    /// The partition's GUID.
    pub partuuid: Uuid,
}

impl EspLocation {
    /// `None` for what is no ESP, has no PARTUUID, or holds no FAT.
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

    /// All of them.
    pub fn all(devices: &Devices) -> Vec<Self> {
        devices.esps().filter_map(|d| Self::of(devices, d)).collect()
    }

    /// The one that a boot entry names. `None` where it is not there.
    ///
    /// # Errors
    /// Two partitions have this PARTUUID, as after a disk was copied block by block.
    pub fn by_partuuid(devices: &Devices, partuuid: Uuid) -> Result<Option<Self>> {
        let mut found = Self::all(devices);
        found.retain(|e| e.partuuid == partuuid);
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => Err(Refusal::Other(format!(
                "PARTUUID {partuuid} exists on {}: the firmware cannot tell them apart; give one \
                of them another with `sgdisk --partition-guid`",
                found
                    .iter()
                    .map(|e| e.device.display().to_string())
                    .collect::<Vec<_>>()
                    .join(" and ")
            ))
            .into()),
        }
    }

    /// Where a new loader for `target` goes: the ESP of its root's disk, else the running BE's,
    /// else the only one on a disk that stays in the machine.
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
            let at = |mount_point: &str| mounts.at(&host.root.join(mount_point));
            let mount = at("boot/efi").or_else(|| at("efi")).or_else(|| at("boot"))?;
            let device = devices.by_node(&mount.source)?;
            Self::of(devices, device)
        };
        let lasting = || {
            let is_removable = |e: &&EspLocation| {
                devices.by_node(&e.disk).is_none_or(|d| d.removable || d.transport == "usb")
            };
            let lasting: Vec<_> = all.iter().filter(|e| !is_removable(e)).collect();
            if let [only] = lasting[..] { Some(only.clone()) } else { None }
        };
        on_disk(&target.root.disk)
            .or_else(|| running.and_then(|r| on_disk(&r.root.disk)))
            .or_else(|| running.and_then(|_| mounted()))
            .or_else(lasting)
            .ok_or_else(|| {
                let disks = std::iter::once(&target.root).chain(running.map(|r| &r.root));
                let mut searched: Vec<String> =
                    disks.map(|r| r.disk.display().to_string()).collect();
                searched.dedup();
                Refusal::NoEsp { searched: searched.join(" and ") }.into()
            })
    }

    /// What the plan says where the loader is not on the disk of the BE.
    pub fn note(&self, target: &BootEnvironment) -> Option<String> {
        (self.disk != target.root.disk).then(|| {
            format!(
                "{} has no EFI system partition: the loader of '{}' goes to {}; without the disk \
                {} it cannot be started",
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

    /// The ESP where it is mounted for writing, else mounted for as long as the handle lives.
    ///
    /// # Errors
    /// As mount(2).
    pub fn mount(&self, host: &Host, devices: &Devices) -> Result<MountedEsp> {
        self.mount_for(host, devices, Access::Use("umask=0077"))
    }

    /// As [`EspLocation::mount`], to read only: nothing on the device changes.
    ///
    /// # Errors
    /// As mount(2).
    pub fn mount_read_only(&self, host: &Host, devices: &Devices) -> Result<MountedEsp> {
        self.mount_for(host, devices, Access::Look)
    }

    /// The one that a boot entry names, mounted to be read; `None`, with a warning in the log, where
    /// that does not work.
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
            Error::Failed(format!("{} has gone: connect that disk again", self.device.display()))
        })?;
        let file_system = FileSystem::found(Volume::of(devices, device))?;
        let mounts = Mounts::read(host)?;
        // The mount table of a simulated machine is believed: its ESP is a directory.
        #[cfg(test)]
        if host.is_simulated()
            && let Some(mount) = mounts.of(device).next()
        {
            return Ok(MountedEsp { esp: Esp::new(mount.mount_point.clone()), mount: None });
        }
        if let Some(place) = file_system.place(&mounts, access != Access::Look)? {
            return Ok(MountedEsp { esp: Esp::new(place), mount: None });
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
        let above = host.run.join("lifeboat");
        std::fs::create_dir_all(&above).at("making the directory", &above)?;
        let name = self.device.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let thread = rustix::thread::gettid().as_raw_nonzero();
        let directory = above.join(format!("esp-{name}-{thread}"));
        std::fs::create_dir_all(&directory).at("making the directory", &directory)?;
        match mount(&directory) {
            Ok(mounted) => Ok(MountedEsp {
                esp: Esp::new(directory.clone()),
                mount: Some(TemporaryMount { mounted: Some(mounted), directory }),
            }),
            Err(e) => {
                let _ = std::fs::remove_dir(&directory);
                Err(e)
            }
        }
    }
}

/// A mounted ESP; a mount of our own goes away with it.
#[derive(Debug)]
pub struct MountedEsp {
    esp: Esp,
    mount: Option<TemporaryMount>,
}

impl MountedEsp {
    /// Its files.
    pub fn esp(&self) -> &Esp {
        &self.esp
    }

    /// Unmounts it, if the mount is ours; everything is then on the device.
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

/// Wraps an error of [`boot::esp`].
pub(crate) fn esp_error(doing: &str) -> impl FnOnce(boot::esp::Error) -> Error + '_ {
    move |e| Error::boot(doing, e)
}
