//! A mounted BE: its root, nested and shared file systems, each on its mount point in the fstab.

mod reach;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::environment::Inventory;
use crate::environment::{BootEnvironment, FileSystemUse};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::device::BlockDevice;
use crate::storage::mount_place::MountPlace;
use crate::storage::mounts::{Mounted, Mounts};
use crate::storage::subvolume::Subvolume;
use crate::storage::volume::{self, FileSystem, Volume};
use reach::Reach;

/// How a BE is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountMode {
    /// For reading: not one byte of its devices changes, not even a journal.
    ReadOnly,
    /// For writing. Its set-user-ID programs and device nodes have no effect.
    ReadWrite,
    /// For writing, as the running BE is: for commands in it.
    ForCommands,
}

impl MountMode {
    fn writes(self) -> bool {
        matches!(self, MountMode::ReadWrite | MountMode::ForCommands)
    }
}

/// A mounted BE. It is unmounted, the last mount first, when dropped.
#[derive(Debug)]
pub struct MountedEnvironment {
    root: PathBuf,
    mounts: Vec<Mounted>,
    warnings: Vec<String>,
    /// The directory was made for it, and is removed with it.
    is_temporary: bool,
}

/// The file systems of a BE that are mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountScope {
    /// The root alone.
    Root,
    /// The root, /usr and /boot.
    Boot,
    /// The root, and those that no other BE uses.
    Own,
    /// All except the ESP.
    All,
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
        let wanted = Wanted { scope, mode, is_for_programs, writable };
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

    /// Mounts one of the file systems that [`nested`] returns.
    ///
    /// # Errors
    /// It cannot be mounted, and is not optional.
    pub(crate) fn mount_nested(
        &mut self,
        host: &Host,
        inventory: &Inventory,
        mount: &NestedMount,
    ) -> Result<()> {
        let NestedMount { file_system, device, mode, .. } = *mount;
        let shown = file_system.mountpoint.display();
        self.warnings.extend(mount.warning.clone());
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
            Err(error)
                if file_system.has_option("nofail")
                    || !mode.writes() && !is_needed_to_boot(&file_system.mountpoint) =>
            {
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

/// Which file systems of a BE are wanted, and for what.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) scope: MountScope,
    pub(crate) mode: MountMode,
    /// Whether programs of the BE see them.
    pub(crate) is_for_programs: bool,
    /// Mount points that the administrator has named: they are mounted although other BEs use them,
    /// and for writing although they are on other disks.
    pub(crate) writable: &'a [PathBuf],
}

impl Wanted<'_> {
    fn new(scope: MountScope, mode: MountMode) -> Self {
        Wanted { scope, mode, is_for_programs: false, writable: &[] }
    }
}

/// A file system that is mounted below the root.
#[derive(Debug)]
pub(crate) struct NestedMount<'a> {
    pub(crate) file_system: &'a FileSystemUse,
    device: &'a BlockDevice,
    mode: MountMode,
    /// Why it is not mounted as it was wanted.
    pub(crate) warning: Option<String>,
}

/// The file systems that are mounted below the root, each after the one that holds its mount point.
pub(crate) struct Nested<'a> {
    pub(crate) mounts: Vec<NestedMount<'a>>,
    /// Sentences about those that are not.
    pub(crate) left_out: Vec<String>,
}

/// Finds the file systems that are mounted below the root of a BE, before anything of it is mounted.
///
/// # Errors
/// It would be written to and is hibernated; the device of a file system that it needs is missing,
/// or is one that the BE does not reach; several devices match a line of its fstab.
pub(crate) fn nested<'a>(
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    wanted: Wanted,
) -> Result<Nested<'a>> {
    if wanted.mode.writes() {
        environment.refuse_hibernated()?;
    }
    let mut found = Nested { mounts: Vec::new(), left_out: Vec::new() };
    for file_system in lines(environment, wanted) {
        let device = match Presence::of(inventory, file_system, wanted)? {
            Presence::Found(device) => device,
            Presence::LeftOut(why) => {
                found.left_out.extend(why);
                continue;
            }
        };
        let (mode, warning) = match reach::of(inventory, environment, file_system, device, wanted) {
            Reach::Whole => (wanted.mode, None),
            Reach::Read(why) => {
                let place = file_system.mountpoint.display();
                (MountMode::ReadOnly, Some(format!("{place} is mounted read-only: {why}")))
            }
            Reach::Nothing(why) if is_needed(&file_system.mountpoint, wanted) => {
                let place = file_system.mountpoint.display();
                return Err(Refusal::OutOfReach { place: place.to_string(), why }.into());
            }
            Reach::Nothing(why) => {
                let place = file_system.mountpoint.display();
                found.left_out.push(format!("{place} is left out: {why}"));
                continue;
            }
        };
        found.mounts.push(NestedMount { file_system, device, mode, warning });
    }
    Ok(found)
}

/// Refuses to run commands in a BE before anything of it is mounted or changed.
///
/// # Errors
/// Those of [`nested`].
pub(crate) fn refuse_for_commands(
    inventory: &Inventory,
    environment: &BootEnvironment,
    writable: &[PathBuf],
) -> Result<()> {
    let wanted = Wanted {
        is_for_programs: true,
        writable,
        ..Wanted::new(MountScope::Own, MountMode::ForCommands)
    };
    nested(inventory, environment, wanted).map(drop)
}

/// The lines of the fstab that are wanted.
fn lines<'a>(environment: &'a BootEnvironment, wanted: Wanted) -> Vec<&'a FileSystemUse> {
    // The fstab of an unfinished copy is that of its source.
    let scope = if environment.is_unfinished() { MountScope::Root } else { wanted.scope };
    let is_wanted = |f: &&FileSystemUse| {
        let is_below = f.mountpoint.is_absolute() && f.mountpoint != Path::new("/");
        let is_device = f.device.is_some()
            || ["UUID=", "LABEL=", "PART", "/dev/"].iter().any(|p| f.spec.starts_with(p));
        let is_in_scope = match scope {
            MountScope::Root => false,
            MountScope::Boot => is_needed_to_boot(&f.mountpoint),
            MountScope::Own => is_own(f) || wanted.writable.contains(&f.mountpoint),
            MountScope::All => true,
        };
        // Some administrators mount /boot only on request. The BE needs it all the same.
        let is_mounted = !f.has_option("noauto") || is_needed_to_boot(&f.mountpoint);
        is_below && is_device && f.fs_type != "swap" && is_mounted && is_in_scope
    };
    let mut all: Vec<_> = environment.file_systems.iter().filter(is_wanted).collect();
    all.sort_by_key(|f| f.mountpoint.components().count());
    all
}

/// Whether no other BE uses a file system, or the BE does not start without it.
fn is_own(file_system: &FileSystemUse) -> bool {
    !file_system.shared || is_needed_to_boot(&file_system.mountpoint)
}

/// Whether the BE's programs make no sense without the file system on this mount point.
fn is_needed(mountpoint: &Path, wanted: Wanted) -> bool {
    is_needed_to_boot(mountpoint) || wanted.is_for_programs && mountpoint == Path::new("/var")
}

/// Whether a BE does not start without the file system on this mount point.
fn is_needed_to_boot(mountpoint: &Path) -> bool {
    ["/usr", "/boot"].iter().any(|place| mountpoint == Path::new(place))
}

/// What there is of a file system that a line names.
enum Presence<'i> {
    /// Its device.
    Found(&'i BlockDevice),
    /// It is not mounted, for this reason if the user should know.
    LeftOut(Option<String>),
}

impl<'i> Presence<'i> {
    /// Finds out what there is. The ESP is always left out.
    ///
    /// # Errors
    /// Several devices match. The device is missing, and the BE needs the file system; commands
    /// need /var, too.
    fn of(inventory: &'i Inventory, file_system: &FileSystemUse, wanted: Wanted) -> Result<Self> {
        let FileSystemUse { mountpoint, spec, .. } = file_system;
        let device = file_system.device.as_deref().and_then(|d| inventory.devices.by_node(d));
        if let Some(device) = device {
            return match device.is_esp() {
                false => Ok(Presence::Found(device)),
                true if wanted.is_for_programs && is_needed_to_boot(mountpoint) => {
                    Err(Refusal::EspIsBoot {
                        mountpoint: mountpoint.display().to_string(),
                        device: device.node.display().to_string(),
                    }
                    .into())
                }
                true => Ok(Presence::LeftOut(None)),
            };
        }
        let is_optional = file_system.has_option("nofail");
        let left_out = |why: &str| format!("{} is left out: {why}", mountpoint.display());
        if let Err(refusal) = inventory.devices.refuse_ambiguous(spec) {
            return match is_optional {
                true => Ok(Presence::LeftOut(Some(left_out(&refusal.to_string())))),
                false => Err(refusal.into()),
            };
        }
        if is_needed(mountpoint, wanted) && !is_optional {
            return Err(Error::Failed(format!(
                "{} is on {spec}, but there is no such device: attach it, or correct the fstab",
                mountpoint.display()
            )));
        }
        let why = left_out(&format!("its fstab names {spec}, and there is no such device"));
        Ok(Presence::LeftOut((!is_optional).then_some(why)))
    }
}

fn missing_device(device: &Path) -> Error {
    Error::Failed(format!("{} is gone: connect that disk again", device.display()))
}

#[cfg(test)]
mod tests;
