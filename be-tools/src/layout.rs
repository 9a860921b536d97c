//! Source file systems and the user's wishes make the target's layout: split, merged, shared. Pure.

mod copies;
mod in_place;
mod mount_point;
mod placement;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use copies::TreeCopy;
pub use in_place::{in_the_place_of, of_its_own};
pub use mount_point::MountPoint;
pub use placement::{FsType, Placement, PlacementKind};

use crate::environment::FileSystemUse;
use crate::error::{Error, Refusal, Result};

/// A file system of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetFileSystem {
    /// Where it is mounted in the target.
    pub mountpoint: MountPoint,
    /// The device it is made on.
    pub device: PathBuf,
    /// The type it is made with.
    pub fs_type: FsType,
    /// Mount options for fstab.
    pub options: String,
    /// The source's file systems that end up in it: more than one where some are merged, none where
    /// it is split off one that goes elsewhere.
    pub sources: Vec<MountPoint>,
}

/// Which mount point of the target lies on which device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The target's own file systems, parents first.
    pub file_systems: Vec<TargetFileSystem>,
    /// Mount points that all BEs mount from the same device.
    pub shared: Vec<MountPoint>,
    /// Lines of fstab that no disk of this machine stands behind, or that are mounted only on
    /// request (tmpfs, network, bind, optical): they stay as they are.
    pub kept: Vec<MountPoint>,
    /// Its own swap devices; where there are none, the swap of the source is shared.
    pub swap: Vec<PathBuf>,
}

/// What of the source stands behind a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin<'a> {
    /// A file system on a disk.
    Disk(&'a FileSystemUse),
    /// The EFI system partition.
    Esp,
    /// Anything else.
    Other(&'a FileSystemUse),
}

type Origins<'a> = BTreeMap<MountPoint, Origin<'a>>;

/// Lays out the target for a source with these lines of fstab (its root among them, swap ignored).
///
/// `esps` are the EFI system partitions of the machine; devices of `wishes` are resolved.
///
/// # Errors
/// `Error::Usage` for wishes that contradict each other or the source; `Refusal` for sharing or
/// moving what every BE must have for itself.
pub fn lay_out(
    source: &[FileSystemUse],
    esps: &[PathBuf],
    placements: &[Placement],
) -> Result<Layout> {
    let origins = origins(source, esps);
    let mut places: BTreeMap<&MountPoint, &Placement> = BTreeMap::new();
    let mut devices: BTreeMap<&Path, &Placement> = BTreeMap::new();
    let mut swap = Vec::new();
    for placement in placements {
        if let Some(other) = placement.device().and_then(|device| devices.insert(device, placement))
        {
            return Err(placement
                .error(format_args!("its device is the one of '-m {other}': give each its own")));
        }
        match &placement.kind {
            PlacementKind::Swap { device } => swap.push(device.clone()),
            PlacementKind::FileSystem { mountpoint, .. }
            | PlacementKind::Merged(mountpoint)
            | PlacementKind::Shared(mountpoint) => {
                if let Some(other) = places.insert(mountpoint, placement) {
                    return Err(placement.error(format_args!(
                        "'-m {other}' speaks of {mountpoint} too: give one of them"
                    )));
                }
                check(placement, mountpoint, origins.get(mountpoint))?;
            }
        }
    }
    let mut targets: BTreeMap<&MountPoint, TargetFileSystem> =
        places.values().filter_map(|placement| target(placement, &origins)).collect();
    if !targets.contains_key(&MountPoint::root()) {
        return Err(Error::Usage(
            "the root file system needs a device: give -m /:DEVICE:FSTYPE, such as -m \
            /:/dev/sdb2:ext4"
                .into(),
        ));
    }

    let own: BTreeSet<MountPoint> = targets.keys().map(|m| (*m).clone()).collect();
    let (mut shared, mut kept) = (Vec::new(), Vec::new());
    for (mountpoint, origin) in &origins {
        match origin {
            Origin::Disk(_) if is_copied(mountpoint, places.get(mountpoint).copied()) => {
                let nearest = mountpoint.nearest(&own).and_then(|m| targets.get_mut(m));
                nearest.ok_or_else(|| no_root(mountpoint))?.sources.push(mountpoint.clone());
            }
            Origin::Disk(_) | Origin::Esp => shared.push(mountpoint.clone()),
            Origin::Other(_) => kept.push(mountpoint.clone()),
        }
    }
    let layout = Layout { file_systems: targets.into_values().collect(), shared, kept, swap };
    layout.owns_what_it_is_made_of()?;
    Ok(layout)
}

impl Layout {
    /// The target's own file system that holds `path` of the target.
    pub fn holding(&self, path: &MountPoint) -> Option<&TargetFileSystem> {
        self.file_systems.iter().rev().find(|t| path.below(&t.mountpoint).is_some())
    }

    /// The target's own file system mounted at `mountpoint`.
    pub fn at(&self, mountpoint: &MountPoint) -> Option<&TargetFileSystem> {
        self.file_systems.iter().find(|t| t.mountpoint == *mountpoint)
    }

    /// Mount points of the source that are not mount points of the target: merged into others.
    pub fn merged(&self) -> impl Iterator<Item = &MountPoint> {
        self.file_systems.iter().flat_map(|t| t.sources.iter().filter(|s| **s != t.mountpoint))
    }

    /// Nothing is split off or merged into a file system that is shared or not on a disk.
    fn owns_what_it_is_made_of(&self) -> Result<()> {
        let above = |place: &MountPoint| {
            self.shared
                .iter()
                .chain(&self.kept)
                .filter(|m| place.is_strictly_below(m))
                .max()
                .cloned()
        };
        let copied: Vec<&MountPoint> = self.file_systems.iter().flat_map(|t| &t.sources).collect();
        for target in &self.file_systems {
            let split = !copied.contains(&&target.mountpoint);
            let source =
                copied.iter().copied().filter(|s| target.mountpoint.is_strictly_below(s)).max();
            let outside = above(&target.mountpoint)
                .filter(|outside| split && source.is_none_or(|s| outside > s));
            if let Some(outside) = outside {
                return Err(not_owned(&target.mountpoint, &outside, "leave it out"));
            }
            for merged in target.sources.iter().filter(|s| **s != target.mountpoint) {
                if let Some(outside) = above(merged).filter(|outside| *outside > target.mountpoint)
                {
                    return Err(not_owned(
                        merged,
                        &outside,
                        &format!("share it (-m {merged}:shared)"),
                    ));
                }
            }
        }
        Ok(())
    }
}

fn origins<'a>(source: &'a [FileSystemUse], esps: &[PathBuf]) -> Origins<'a> {
    let mut origins = Origins::new();
    for line in source.iter().filter(|line| line.fs_type != "swap") {
        let Ok(mountpoint) = MountPoint::try_from(line.mountpoint.as_path()) else { continue };
        let is_esp = line.device.as_ref().is_some_and(|d| esps.contains(d))
            || is_esp_place(&mountpoint, line);
        let origin = match is_on_disk(&mountpoint, line) {
            // A /boot that is the ESP itself is copied: each BE has its own kernels.
            true if is_esp
                && mountpoint.as_path() != Path::new("/boot")
                && !mountpoint.is_root() =>
            {
                Origin::Esp
            }
            true => Origin::Disk(line),
            false => Origin::Other(line),
        };
        origins.insert(mountpoint, origin);
    }
    origins
}

fn is_esp_place(mountpoint: &MountPoint, line: &FileSystemUse) -> bool {
    matches!(line.fs_type.as_str(), "vfat" | "msdos" | "auto")
        && ["/boot/efi", "/efi"].iter().any(|p| mountpoint.as_path() == Path::new(p))
}

/// A file system on a disk of this machine that is mounted at boot. Some mount their /boot only to
/// change it.
fn is_on_disk(mountpoint: &MountPoint, line: &FileSystemUse) -> bool {
    const TAGS: [&str; 5] = ["UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID="];
    let named = line.spec.starts_with("/dev/") || TAGS.iter().any(|tag| line.spec.starts_with(tag));
    let option = |name: &str| line.options.split(',').any(|o| o == name);
    let removable = matches!(line.fs_type.as_str(), "iso9660" | "udf" | "udf,iso9660");
    let on_request = ["bind", "rbind"].iter().any(|name| option(name))
        || option("noauto") && !is_everyones_own(mountpoint);
    mountpoint.is_root() || named && !removable && !on_request
}

/// Whether the content of a source file system goes into the target.
fn is_copied(mountpoint: &MountPoint, placement: Option<&Placement>) -> bool {
    match placement.map(|w| &w.kind) {
        Some(PlacementKind::Shared(_)) => false,
        Some(_) => true,
        None => {
            let path = mountpoint.as_path();
            ["/", "/usr", "/var", "/opt"].iter().any(|p| path == Path::new(p))
                || path.starts_with("/boot")
        }
    }
}

/// Whether a wish makes sense for what the source has there.
fn check(placement: &Placement, mountpoint: &MountPoint, origin: Option<&Origin>) -> Result<()> {
    let refuse = |why: String| Err(Refusal::Other(format!("-m {}: {why}", placement.text)).into());
    match (&placement.kind, origin) {
        (PlacementKind::Shared(_), origin)
            if is_everyones_own(mountpoint) && origin != Some(&Origin::Esp) =>
        {
            refuse(format!(
                "{mountpoint} is never shared, every boot environment has its own: leave this \
                out, or \
            give it a device (-m {mountpoint}:DEVICE:FSTYPE)"
            ))
        }
        (PlacementKind::Merged(_), _) if mountpoint.is_root() => Err(placement
            .error("/ has nothing to be merged into: give it a device (-m /:DEVICE:FSTYPE)")),
        (PlacementKind::Shared(_) | PlacementKind::Merged(_), None) => Err(placement.error(
            format_args!("{mountpoint} is no file system of its own in the source: leave this out"),
        )),
        (PlacementKind::Shared(_), Some(_)) | (PlacementKind::Merged(_), Some(Origin::Disk(_))) => {
            Ok(())
        }
        (PlacementKind::Swap { .. }, _) => Ok(()),
        (_, Some(Origin::Esp)) => refuse(format!(
            "{mountpoint} is the EFI system partition, which stays shared (the new loader goes to \
            the one on its root's disk): leave this out"
        )),
        (_, Some(Origin::Other(line))) => Err(placement.error(format_args!(
            "{mountpoint} is '{}' ({}) in the source's fstab and is not copied: leave this out, \
            or change that line first",
            line.spec, line.fs_type
        ))),
        (PlacementKind::FileSystem { fs_type, .. }, origin) => {
            if needed_before_mounts(mountpoint) {
                return Err(placement.error(format_args!(
                    "{mountpoint} must lie on the root file system, a system needs it before it \
                    can mount anything: leave this out"
                )));
            }
            let was_vfat = matches!(origin, Some(Origin::Disk(line)) if line.fs_type == "vfat");
            if *fs_type == FsType::Vfat && !was_vfat {
                return Err(
                    placement.error("vfat keeps no owners, modes or links: use ext4, xfs or btrfs")
                );
            }
            Ok(())
        }
    }
}

/// Kernels, installed packages and the records of both.
fn is_everyones_own(mountpoint: &MountPoint) -> bool {
    let path = mountpoint.as_path();
    ["/", "/usr", "/var"].iter().any(|p| path == Path::new(p)) || path.starts_with("/boot")
}

fn needed_before_mounts(mountpoint: &MountPoint) -> bool {
    const FIRST: [&str; 11] =
        ["etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "dev", "proc", "sys", "run"];
    let first = mountpoint.relative().iter().next().unwrap_or_default();
    FIRST.iter().any(|name| first == *name)
}

fn not_owned(place: &MountPoint, outside: &MountPoint, way_out: &str) -> Error {
    Error::Usage(format!(
        "{place} lies on {outside}, which the new boot environment does not own: give {outside} a \
        device too (-m {outside}:DEVICE:FSTYPE), or {way_out}"
    ))
}

fn no_root(mountpoint: &MountPoint) -> Error {
    Error::Failed(format!("nothing in the target would hold {mountpoint}: give -m /:DEVICE:FSTYPE"))
}

fn target<'a>(
    placement: &'a Placement,
    origins: &Origins,
) -> Option<(&'a MountPoint, TargetFileSystem)> {
    let PlacementKind::FileSystem { mountpoint, device, fs_type, options } = &placement.kind else {
        return None;
    };
    let options = options.clone().unwrap_or_else(|| match origins.get(mountpoint) {
        Some(Origin::Disk(line)) => inherited_options(line, *fs_type),
        _ => "defaults".into(),
    });
    let (device, sources) = (device.clone(), Vec::new());
    Some((
        mountpoint,
        TargetFileSystem {
            mountpoint: mountpoint.clone(),
            device,
            fs_type: *fs_type,
            options,
            sources,
        },
    ))
}

/// The source's options as far as they mean something for the new file system: those of another
/// type, of a subvolume and of further devices are left out (mount(8), ext4(5), xfs(5), btrfs(5)).
fn inherited_options(line: &FileSystemUse, fs_type: FsType) -> String {
    const GENERIC: [&str; 29] = [
        "defaults",
        "auto",
        "noauto",
        "async",
        "sync",
        "dirsync",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "lazytime",
        "nolazytime",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "ro",
        "rw",
        "nofail",
        "discard",
        "nodiscard",
        "user",
        "users",
    ];
    const BOUND: [&str; 8] = [
        "subvol=",
        "subvolid=",
        "device=",
        "logdev=",
        "rtdev=",
        "journal_dev=",
        "journal_path=",
        "degraded",
    ];
    let same_type = line.fs_type == fs_type.as_str();
    let keep = |option: &&str| {
        let generic =
            GENERIC.contains(option) || option.starts_with("x-") || option.starts_with("comment=");
        !option.is_empty() && (generic || same_type && !BOUND.iter().any(|b| option.starts_with(b)))
    };
    let mut options: Vec<&str> = line.options.split(',').filter(keep).collect();
    if options.is_empty() {
        options.push("defaults");
    }
    if line.mountpoint == Path::new("/")
        && fs_type.is_ext()
        && !options.iter().any(|o| o.starts_with("errors="))
    {
        options.push("errors=remount-ro");
    }
    options.join(",")
}
