//! A BE mounted as a whole: root, nested and shared file systems, each in the place its fstab gives
//! it.

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

/// What may be done to a mounted BE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountMode {
    /// Not one byte of its devices changes, journals included.
    ReadOnly,
    /// As when it runs.
    ReadWrite,
}

/// A mounted BE; unmounted, the last mount first, when dropped.
#[derive(Debug)]
pub struct MountedEnvironment {
    root: PathBuf,
    mounts: Vec<Mounted>,
    /// The directory was made for it and goes with it.
    is_temporary: bool,
}

/// Which of a BE's file systems.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountScope {
    Root,
    /// Root and what no other BE uses.
    Own,
    /// All but the ESP.
    All,
}

impl MountedEnvironment {
    /// Mounts all of a BE below `dir`, which must be there: root, nested and shared file systems.
    /// Not swap, not what fstab mounts only on request, and not the ESP.
    ///
    /// # Errors
    /// When its root cannot be mounted, or a file system that it needs.
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

    /// Mounts the root file system of a BE alone, in a directory of its own. Call it in a private
    /// mount namespace.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn mount_root(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        mode: MountMode,
    ) -> Result<Self> {
        Self::mount_temporarily(host, inventory, environment, mode, MountScope::Root)
    }

    /// Mounts root and all that is the BE's own, such as a /boot or /usr that it does not share, in
    /// a directory of its own. Call it in a private mount namespace.
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
        let dir = host.run.join(format!("lifeboat/mounted-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).at("making the directory", &dir)?;
        let mounted = Self::mount_scope(host, inventory, environment, dir.clone(), mode, scope);
        match mounted {
            Ok(mut mounted) => {
                mounted.is_temporary = true;
                Ok(mounted)
            }
            Err(error) => {
                // It is empty, unless something is still mounted there.
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

    /// Mounts the root file system of a BE on `dir`, which must be there; the others are mounted
    /// one by one.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub(crate) fn mount_root_on(
        host: &Host,
        inventory: &Inventory,
        environment: &BootEnvironment,
        dir: PathBuf,
        mode: MountMode,
    ) -> Result<Self> {
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

    /// Mounts one of [`nested`] in its place. The ESP stays away, and what is optional and missing.
    ///
    /// # Errors
    /// When it cannot be mounted and is not optional.
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
                "{shown} lies on {}, and there is no such device: attach it, or correct the fstab",
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
                "{shown} is in its fstab, but there is no such directory to mount it on"
            )));
        };
        // Through the descriptor: no link inside the BE leads the mount out of it.
        let link = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let place = link.canonicalize().at("finding", &link)?;
        let options = &file_system.options;
        let volume = Volume::of(&inventory.devices, device);
        let table = Mounts::read(host)?;
        let shown = Subvolume::of_options(options)
            .map(|subvolume| volume.with_subvolume(subvolume))
            .and_then(|volume| show(volume, &table, options, &place, mode));
        match shown {
            Ok(mounted) => self.mounts.push(mounted),
            Err(error) if optional => log::warn!("{error}"),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Where its root is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Leaves it mounted.
    pub fn into_persistent(mut self) -> PathBuf {
        for mount in self.mounts.drain(..) {
            mount.into_persistent();
        }
        self.is_temporary = false;
        self.root.clone()
    }

    /// Unmounts it now and waits until everything is on its devices.
    ///
    /// # Errors
    /// When something still uses it.
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

/// Shows a volume in its place, with its options of the fstab where it is written to.
fn show(
    volume: Volume,
    table: &Mounts,
    options: &str,
    place: &Path,
    mode: MountMode,
) -> Result<Mounted> {
    let file_system = FileSystem::found(volume)?;
    match mode {
        MountMode::ReadOnly => file_system.show(table, volume::Access::Read, place),
        MountMode::ReadWrite => {
            let mut options: Vec<&str> = options.split(',').filter(|o| *o != "ro").collect();
            if file_system.kind == Kind::Xfs {
                options.push("nouuid");
            }
            file_system.show(table, volume::Access::Use(&options.join(",")), place)
        }
    }
}

/// What is mounted below the root, a file system after the one that holds its mount point.
pub(crate) fn nested(environment: &BootEnvironment, scope: MountScope) -> Vec<&FileSystemUse> {
    // The fstab of an unfinished copy is its source's.
    let scope = if environment.is_unfinished() { MountScope::Root } else { scope };
    let is_wanted = |f: &&FileSystemUse| {
        let is_below = f.mountpoint.is_absolute() && f.mountpoint != Path::new("/");
        let is_device = f.device.is_some()
            || ["UUID=", "LABEL=", "PART", "/dev/"].iter().any(|p| f.spec.starts_with(p));
        let scope = match scope {
            MountScope::Root => false,
            MountScope::Own => {
                !f.shared || ["/usr", "/boot"].iter().any(|place| f.mountpoint == Path::new(place))
            }
            MountScope::All => true,
        };
        is_below && is_device && f.fs_type != "swap" && !has_option(f, "noauto") && scope
    };
    let mut all: Vec<_> = environment.file_systems.iter().filter(is_wanted).collect();
    all.sort_by_key(|f| f.mountpoint.components().count());
    all
}

/// It is mounted with the rest: it is not the ESP, nor optional and missing.
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
    Error::Failed(format!("{} is no longer there: was it unplugged?", device.display()))
}

#[cfg(test)]
mod tests;
