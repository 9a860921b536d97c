//! The file systems that are mounted below the root of a BE, found before anything is mounted.

use std::path::{Path, PathBuf};

use super::reach::{self, Reach};
use super::wanted::{MountMode, MountScope, Wanted, is_needed_to_boot};
use crate::environment::{BootEnvironment, FileSystemUse, Inventory};
use crate::error::{Error, Refusal, Result};
use crate::storage::device::BlockDevice;

/// A file system that is mounted below the root.
#[derive(Debug)]
pub(crate) struct NestedMount<'a> {
    pub(crate) file_system: &'a FileSystemUse,
    pub(super) device: &'a BlockDevice,
    pub(super) mode: MountMode,
    /// Whether the others are mounted although this one cannot be.
    pub(super) is_optional: bool,
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
            Reach::Read(why)
                if wanted.installs_packages && is_needed(&file_system.mountpoint, wanted) =>
            {
                let place = file_system.mountpoint.display();
                return Err(Refusal::OutOfReach { place: place.to_string(), why }.into());
            }
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
        let is_optional = is_optional(file_system, wanted)
            || !mode.writes() && !is_needed(&file_system.mountpoint, wanted);
        found.mounts.push(NestedMount { file_system, device, mode, is_optional, warning });
    }
    Ok(found)
}

/// Refuses to run commands in a BE before anything of it is mounted or changed. Those that install
/// packages write to /usr, /boot and /var.
///
/// # Errors
/// Those of [`nested`].
pub(crate) fn refuse_for_commands(
    inventory: &Inventory,
    environment: &BootEnvironment,
    writable: &[PathBuf],
    installs_packages: bool,
) -> Result<()> {
    let wanted = Wanted {
        is_for_programs: true,
        installs_packages,
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

/// Whether what is done makes no sense without the file system on this mount point.
fn is_needed(mountpoint: &Path, wanted: Wanted) -> bool {
    is_needed_to_boot(mountpoint)
        || wanted.is_for_programs && mountpoint == Path::new("/var")
        || wanted.installs_packages && has_files_of_packages(mountpoint)
        || wanted
            .read
            .iter()
            .any(|path| path.starts_with(mountpoint) || mountpoint.starts_with(path))
}

/// Whether packages have files there, or a package manager its database.
fn has_files_of_packages(mountpoint: &Path) -> bool {
    let is_esp = mountpoint.to_string_lossy().starts_with("/boot/efi");
    !is_esp && ["/usr", "/boot", "/opt"].iter().any(|place| mountpoint.starts_with(place))
        || ["/var/lib/dpkg", "/var/lib/rpm"]
            .iter()
            .any(|list| Path::new(list).starts_with(mountpoint))
}

/// Whether the BE starts without it. That does not count for programs which need it, whose files
/// would go below its mount point, nor for what is read there.
fn is_optional(file_system: &FileSystemUse, wanted: Wanted) -> bool {
    let is_used = wanted.is_for_programs || !wanted.read.is_empty();
    let is_needed = is_used && is_needed(&file_system.mountpoint, wanted);
    file_system.has_option("nofail") && !is_needed
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
        let is_optional = is_optional(file_system, wanted);
        let left_out = |why: &str| format!("{} is left out: {why}", mountpoint.display());
        if let Err(refusal) = inventory.devices.refuse_ambiguous(spec) {
            return match is_optional || file_system.is_esp() {
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
