//! A mounted BE: its root, nested and shared file systems, each on its mount point in the fstab.

mod nested;
mod reach;
mod wanted;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::environment::BootEnvironment;
use crate::environment::Inventory;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::mount_place::MountPlace;
use crate::storage::mounts::{Mounted, Mounts};
use crate::storage::subvolume::Subvolume;
use crate::storage::volume::{self, FileSystem, Volume};

pub(crate) use nested::{Nested, NestedMount, nested, refuse_for_commands};
pub(crate) use reach::refuse_anothers;
pub use wanted::MountMode;
pub(crate) use wanted::{MountScope, Wanted};

/// A mounted BE. It is unmounted, the last mount first, when dropped.
#[derive(Debug)]
pub struct MountedEnvironment {
    root: PathBuf,
    mounts: Vec<Mounted>,
    warnings: Vec<String>,
    /// The directory was made for it, and is removed with it.
    is_temporary: bool,
}

impl MountedEnvironment {
    /// Mounts a whole BE on `dir`, which must exist: root, nested and shared file systems. Swap,
    /// the ESP, and file systems that fstab mounts only on request are not mounted. What is not
    /// needed and not found is left out with a warning. Those on other disks are mounted for
    /// writing only if they were made for the BE, or their mount points are in `writable`.
    ///
    /// # Errors
    /// The root, or a file system that is not optional, cannot be mounted; those of [`nested`].
    pub fn mount(
        inventory: &Inventory,
        environment: &BootEnvironment,
        dir: &Path,
        mode: MountMode,
        writable: &[PathBuf],
    ) -> Result<Self> {
        let wanted = Wanted { writable, ..Wanted::new(MountScope::All, mode) };
        Self::mount_wanted(&Host::local(), inventory, environment, dir.to_owned(), wanted)
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
        let wanted = Wanted::new(MountScope::Root, mode);
        Self::mount_temporarily(host, inventory, environment, wanted)
    }

    /// Mounts the root, /usr and /boot of a BE on a temporary directory, for reading. Call this in a
    /// private mount namespace.
    ///
    /// # Errors
    /// As [`MountedEnvironment::mount`].
    pub fn mount_to_boot(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
    ) -> Result<Self> {
        let wanted = Wanted::new(MountScope::Boot, MountMode::ReadOnly);
        Self::mount_temporarily(host, inventory, environment, wanted)
    }

    /// Mounts the root and the other file systems that only this BE uses, such as a separate /boot
    /// or /usr, on a temporary directory, for reading. Call this in a private mount namespace.
    ///
    /// # Errors
    /// As [`MountedEnvironment::mount`].
    pub fn mount_system(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
    ) -> Result<Self> {
        let wanted = Wanted::new(MountScope::Own, MountMode::ReadOnly);
        Self::mount_temporarily(host, inventory, environment, wanted)
    }

    /// As [`MountedEnvironment::mount_system`], where these paths are read: their file systems must
    /// be there.
    ///
    /// # Errors
    /// As [`MountedEnvironment::mount`].
    pub(crate) fn mount_for_reading(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        paths: &[PathBuf],
    ) -> Result<Self> {
        let wanted = Wanted { read: paths, ..Wanted::new(MountScope::Own, MountMode::ReadOnly) };
        Self::mount_temporarily(host, inventory, environment, wanted)
    }

    /// Mounts what commands in the BE see: the root and the file systems that only this BE uses, as
    /// far as it reaches them, on a temporary directory. One that other BEs use too is mounted if
    /// its mount point is in `writable`. Call this in a private mount namespace.
    ///
    /// # Errors
    /// As [`MountedEnvironment::mount`].
    pub(crate) fn mount_for_commands(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        mode: MountMode,
        writable: &[PathBuf],
    ) -> Result<Self> {
        let (scope, is_for_programs) = (MountScope::Own, true);
        let wanted = Wanted { is_for_programs, writable, ..Wanted::new(scope, mode) };
        Self::mount_temporarily(host, inventory, environment, wanted)
    }

    fn mount_temporarily(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        wanted: Wanted,
    ) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = host.work_directory(&format!("mounted-{}-{count}", std::process::id()))?;
        let mounted = Self::mount_wanted(host, inventory, environment, dir.clone(), wanted);
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

    fn mount_wanted(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        dir: PathBuf,
        wanted: Wanted,
    ) -> Result<Self> {
        let Nested { mounts, left_out } = nested(inventory, environment, wanted)?;
        let mut mounted = Self::mount_root_on(host, inventory, environment, dir, wanted.mode)?;
        mounted.warnings.extend(left_out);
        for mount in &mounts {
            mounted.warnings.extend(mount.warning.clone());
            mounted.mount_nested(host, inventory, mount)?;
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
        if mode.writes() {
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
        let mounted = FileSystem::found(volume)?.show(
            &Mounts::read(host)?,
            access(mode, &without_ro(options)),
            &dir,
        )?;
        let warnings = mounted.warnings().to_vec();
        let mounts = vec![mounted];
        Ok(MountedEnvironment { root: dir, mounts, warnings, is_temporary: false })
    }

    /// Mounts one of the file systems that [`nested`] returns. What that warns of is not among
    /// [`MountedEnvironment::warnings`].
    ///
    /// # Errors
    /// It cannot be mounted, and is not optional.
    pub(crate) fn mount_nested(
        &mut self,
        host: &Host,
        inventory: &Inventory,
        mount: &NestedMount,
    ) -> Result<()> {
        let NestedMount { file_system, device, mode, is_optional, .. } = *mount;
        let shown = file_system.mountpoint.display();
        if mode.writes() {
            inventory.refuse_hibernated(device)?;
        }
        let root = RootDir::open(&self.root)?;
        let directory = match mode {
            MountMode::ReadOnly => root.directory(&file_system.mountpoint)?,
            MountMode::ReadWrite | MountMode::ForCommands => {
                Some(root.make_directory(&file_system.mountpoint)?)
            }
        };
        let Some(directory) = directory else {
            return Err(Error::Failed(format!(
                "{shown} is in the fstab, but there is no such directory to mount it on"
            )));
        };
        let place = MountPlace::of(directory)?;
        let table = Mounts::read(host)?;
        let options = &file_system.options;
        let mounted = Volume::of_line(&inventory.devices, device, options)
            .and_then(FileSystem::found)
            .and_then(|found| found.show_on(&table, access(mode, &without_ro(options)), &place));
        match mounted {
            Ok(mounted) => {
                self.warnings.extend_from_slice(mounted.warnings());
                self.mounts.push(mounted);
            }
            Err(error) if is_optional => {
                self.warnings.push(format!("{shown} is left out: {error}"));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Sentences about what was left out, and about mount options that were not used.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
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

    /// Waits until everything that was written is on its devices.
    ///
    /// # Errors
    /// A device reports a write error.
    pub fn sync(&self) -> Result<()> {
        self.mounts.iter().try_for_each(|mount| RootDir::open(mount.dir())?.sync())
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

fn access<'a>(mode: MountMode, options: &'a str) -> volume::Access<'a> {
    match mode {
        MountMode::ReadOnly => volume::Access::Read,
        MountMode::ReadWrite => volume::Access::Use(options),
        MountMode::ForCommands => volume::Access::Run(options),
    }
}

fn without_ro(options: &str) -> String {
    options.split(',').filter(|o| *o != "ro").collect::<Vec<_>>().join(",")
}

fn missing_device(device: &Path) -> Error {
    Error::Failed(format!("{} is gone: connect that disk again", device.display()))
}

#[cfg(test)]
mod tests;
