//! A mounted BE: its root, nested and shared file systems, each on its mount point in the fstab.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::environment::Inventory;
use crate::environment::{BootEnvironment, FileSystemUse};
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::device::BlockDevice;
use crate::storage::mounts::{Mounted, Mounts};
use crate::storage::probe::Kind;
use crate::storage::subvolume::Subvolume;
use crate::storage::volume::{self, FileSystem, Volume};

/// How a BE is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountMode {
    /// For reading: not one byte of its devices changes, not even a journal.
    ReadOnly,
    /// For writing, as the running BE is.
    ReadWrite,
}

/// A mounted BE. It is unmounted, the last mount first, when dropped.
#[derive(Debug)]
pub struct MountedEnvironment {
    root: PathBuf,
    mounts: Vec<Mounted>,
    /// The directory was made for it, and is removed with it.
    is_temporary: bool,
}

/// The file systems of a BE that are mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountScope {
    /// The root alone.
    Root,
    /// The root, and those that no other BE uses.
    Own,
    /// All except the ESP.
    All,
}

impl MountedEnvironment {
    /// Mounts a whole BE on `dir`, which must exist: root, nested and shared file systems. Swap,
    /// the ESP, and file systems that fstab mounts only on request are not mounted.
    ///
    /// # Errors
    /// The root, or a file system that is not optional, cannot be mounted.
    pub fn mount(
        inventory: &Inventory,
        environment: &BootEnvironment,
        dir: &Path,
        mode: MountMode,
    ) -> Result<Self> {
        Self::mount_scope(
            &Host::local(),
            inventory,
            environment,
            dir.to_owned(),
            mode,
            MountScope::All,
        )
    }

    /// Mounts the root file system of a BE alone, on a temporary directory. Call this in a private
    /// mount namespace.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn mount_root(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        mode: MountMode,
    ) -> Result<Self> {
        Self::mount_temporarily(host, inventory, environment, mode, MountScope::Root)
    }

    /// Mounts the root and the other file systems that only this BE uses, such as a separate /boot
    /// or /usr, on a temporary directory. Call this in a private mount namespace.
    ///
    /// # Errors
    /// As [`MountedEnvironment::mount`].
    pub fn mount_system(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        mode: MountMode,
    ) -> Result<Self> {
        Self::mount_temporarily(host, inventory, environment, mode, MountScope::Own)
    }

    fn mount_temporarily(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        mode: MountMode,
        scope: MountScope,
    ) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = host.work_directory(&format!("mounted-{}-{count}", std::process::id()))?;
        let mounted = Self::mount_scope(host, inventory, environment, dir.clone(), mode, scope);
        match mounted {
            Ok(mut mounted) => {
                mounted.is_temporary = true;
                Ok(mounted)
            }
            Err(error) => {
                // The directory is empty, unless something is still mounted on it.
                let _ = std::fs::remove_dir(&dir);
                Err(error)
            }
        }
    }

    fn mount_scope(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        dir: PathBuf,
        mode: MountMode,
        scope: MountScope,
    ) -> Result<Self> {
        let mut mounted = Self::mount_root_on(host, inventory, environment, dir, mode)?;
        for file_system in nested(environment, scope) {
            mounted.mount_nested(host, inventory, file_system, mode)?;
        }
        Ok(mounted)
    }

    /// Mounts the root file system of a BE on `dir`, which must exist. Mount the others with
    /// [`MountedEnvironment::mount_nested`].
    ///
    /// # Errors
    /// It cannot be mounted, or it would be written to and is hibernated.
    pub(crate) fn mount_root_on(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        dir: PathBuf,
        mode: MountMode,
    ) -> Result<Self> {
        if mode != MountMode::ReadOnly {
            environment.refuse_hibernated()?;
        }
        let device = inventory
            .devices
            .by_node(&environment.root.device)
            .ok_or_else(|| missing_device(&environment.root.device))?;
        let in_fstab = environment.file_systems.iter().find(|f| f.mountpoint == Path::new("/"));
        let options = in_fstab.map_or("", |f| f.options.as_str());
        let subvolume = environment.root.subvolume.as_deref().and_then(Subvolume::at);
        let volume = Volume::of(&inventory.devices, device).with_subvolume(subvolume);
        let mounted = show(volume, &Mounts::read(host)?, options, &dir, mode)?;
        Ok(MountedEnvironment { root: dir, mounts: vec![mounted], is_temporary: false })
    }

    /// Mounts one of the file systems that [`nested`] returns. Does nothing for the ESP, or for an
    /// optional file system whose device is missing.
    ///
    /// # Errors
    /// It cannot be mounted, and is not optional.
    pub(crate) fn mount_nested(
        &mut self,
        host: &Host,
        inventory: &Inventory,
        file_system: &FileSystemUse,
        mode: MountMode,
    ) -> Result<()> {
        if !should_mount(inventory, file_system) {
            return Ok(());
        }
        let shown = file_system.mountpoint.display();
        let optional = has_option(file_system, "nofail");
        let Some(device) = device_of(inventory, file_system) else {
            return Err(Error::Failed(format!(
                "{shown} is on {}, but there is no such device: attach it, or correct the fstab",
                file_system.spec
            )));
        };
        let root = RootDir::open(&self.root)?;
        let directory = match mode {
            MountMode::ReadOnly => root.directory(&file_system.mountpoint)?,
            MountMode::ReadWrite => Some(root.make_directory(&file_system.mountpoint)?),
        };
        let Some(directory) = directory else {
            return Err(Error::Failed(format!(
                "{shown} is in the fstab, but there is no such directory to mount it on"
            )));
        };
        // Through the file descriptor, so that no symlink in the BE redirects the mount.
        let link = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let directory = link.canonicalize().at("finding", &link)?;
        let options = &file_system.options;
        let volume = Volume::of(&inventory.devices, device);
        let table = Mounts::read(host)?;
        let shown = Subvolume::of_options(options)
            .map(|subvolume| volume.with_subvolume(subvolume))
            .and_then(|volume| show(volume, &table, options, &directory, mode));
        match shown {
            Ok(mounted) => self.mounts.push(mounted),
            Err(error) if optional => log::warn!("{error}"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// The directory on which its root is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Keeps it mounted.
    pub fn into_persistent(mut self) -> PathBuf {
        for mount in self.mounts.drain(..) {
            mount.into_persistent();
        }
        self.is_temporary = false;
        self.root.clone()
    }

    /// Unmounts it now, and waits until everything is on its devices.
    ///
    /// # Errors
    /// It is still in use.
    pub fn unmount(mut self) -> Result<()> {
        while let Some(mount) = self.mounts.pop() {
            mount.unmount()?;
        }
        Ok(())
    }
}

impl Drop for MountedEnvironment {
    fn drop(&mut self) {
        while let Some(mount) = self.mounts.pop() {
            drop(mount);
        }
        if self.is_temporary {
            let _ = std::fs::remove_dir(&self.root);
        }
    }
}

/// Mounts a volume on `directory`, with its options in fstab if that is for writing.
fn show(
    volume: Volume,
    table: &Mounts,
    options: &str,
    directory: &Path,
    mode: MountMode,
) -> Result<Mounted> {
    let file_system = FileSystem::found(volume)?;
    match mode {
        MountMode::ReadOnly => file_system.show(table, volume::Access::Read, directory),
        MountMode::ReadWrite => {
            let mut options: Vec<&str> = options.split(',').filter(|o| *o != "ro").collect();
            if file_system.kind == Kind::Xfs {
                options.push("nouuid");
            }
            file_system.show(table, volume::Access::Use(&options.join(",")), directory)
        }
    }
}

/// The file systems that are mounted below the root, each after the one that holds its mount point.
pub(crate) fn nested(environment: &BootEnvironment, scope: MountScope) -> Vec<&FileSystemUse> {
    // The fstab of an unfinished copy is that of its source.
    let scope = if environment.is_unfinished() { MountScope::Root } else { scope };
    let is_wanted = |f: &&FileSystemUse| {
        let is_below = f.mountpoint.is_absolute() && f.mountpoint != Path::new("/");
        let is_device = f.device.is_some()
            || ["UUID=", "LABEL=", "PART", "/dev/"].iter().any(|p| f.spec.starts_with(p));
        let is_in_scope = match scope {
            MountScope::Root => false,
            MountScope::Own => {
                !f.shared || ["/usr", "/boot"].iter().any(|place| f.mountpoint == Path::new(place))
            }
            MountScope::All => true,
        };
        is_below && is_device && f.fs_type != "swap" && !has_option(f, "noauto") && is_in_scope
    };
    let mut all: Vec<_> = environment.file_systems.iter().filter(is_wanted).collect();
    all.sort_by_key(|f| f.mountpoint.components().count());
    all
}

/// Whether a file system is mounted: it is not the ESP, nor optional with a missing device.
pub(crate) fn should_mount(inventory: &Inventory, file_system: &FileSystemUse) -> bool {
    match device_of(inventory, file_system) {
        Some(device) => !device.is_esp(),
        None => !has_option(file_system, "nofail"),
    }
}

fn device_of<'i>(inventory: &'i Inventory, file_system: &FileSystemUse) -> Option<&'i BlockDevice> {
    inventory.devices.by_node(file_system.device.as_deref()?)
}

fn has_option(file_system: &FileSystemUse, name: &str) -> bool {
    file_system.options.split(',').any(|o| o == name)
}

fn missing_device(device: &Path) -> Error {
    Error::Failed(format!("{} is gone: connect that disk again", device.display()))
}

#[cfg(test)]
mod tests;
