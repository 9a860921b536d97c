//! The rules for what is copied, shared and kept, and which placements are refused.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::mount_point::MountPoint;
use super::options::inherited_options;
use super::placement::{FsType, Placement, PlacementKind};
use super::target::{Layout, TargetFileSystem};
use crate::environment::{FileSystemUse, SYSTEM_PLACES, is_never_shared};
use crate::error::{Error, Refusal, Result};
use crate::storage::provision::Provision;

/// What the source mounts on a mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceMount<'a> {
    /// A file system on a disk.
    Disk(&'a FileSystemUse),
    /// The EFI system partition.
    Esp,
    /// Anything else.
    Other(&'a FileSystemUse),
}

type SourceMounts<'a> = BTreeMap<MountPoint, SourceMount<'a>>;

/// Lays out the target for a source with these lines of fstab, which include its root. Swap is
/// ignored.
///
/// `esps` are the EFI system partitions of the machine.
///
/// # Errors
/// `Error::Usage` for placements that contradict each other or the source, and `Refusal` for
/// sharing or moving what every BE must have for itself.
pub fn lay_out(
    source: &[FileSystemUse],
    esps: &[PathBuf],
    placements: &[Placement<Provision>],
) -> Result<Layout> {
    let source_mounts = source_mounts(source, esps);
    let mut by_mount_point: BTreeMap<&MountPoint, &Placement<Provision>> = BTreeMap::new();
    let mut devices: BTreeMap<&Path, &Placement<Provision>> = BTreeMap::new();
    let mut swap = Vec::new();
    for placement in placements {
        let node = placement.device().map(|provision| provision.node());
        if let Some(other) = node.and_then(|node| devices.insert(node, placement)) {
            return Err(placement
                .error(format_args!("'-m {other}' has the same device: give each its own")));
        }
        match &placement.kind {
            PlacementKind::Swap { device } => swap.push(device.clone()),
            PlacementKind::FileSystem { mountpoint, .. }
            | PlacementKind::Merged(mountpoint)
            | PlacementKind::Shared(mountpoint) => {
                if let Some(other) = by_mount_point.insert(mountpoint, placement) {
                    return Err(placement.error(format_args!(
                        "'-m {other}' is for {mountpoint} too: give only one of them"
                    )));
                }
                check(placement, mountpoint, source_mounts.get(mountpoint))?;
            }
        }
    }
    let mut targets: BTreeMap<&MountPoint, TargetFileSystem> =
        by_mount_point.values().filter_map(|placement| target(placement, &source_mounts)).collect();
    if !targets.contains_key(&MountPoint::root()) {
        return Err(Error::Usage(
            "the root file system needs a device: give -m /:DEVICE:FSTYPE, such as -m \
            /:/dev/sdb2:ext4"
                .into(),
        ));
    }

    let own: BTreeSet<MountPoint> = targets.keys().map(|m| (*m).clone()).collect();
    let (mut shared, mut kept) = (Vec::new(), Vec::new());
    for (mountpoint, source_mount) in &source_mounts {
        match source_mount {
            SourceMount::Disk(_)
                if is_copied(mountpoint, by_mount_point.get(mountpoint).copied()) =>
            {
                let nearest = mountpoint.nearest(&own).and_then(|m| targets.get_mut(m));
                nearest.ok_or_else(|| no_root(mountpoint))?.sources.push(mountpoint.clone());
            }
            SourceMount::Disk(_) | SourceMount::Esp => shared.push(mountpoint.clone()),
            SourceMount::Other(_) => kept.push(mountpoint.clone()),
        }
    }
    let file_systems = targets.into_values().collect();
    let layout = Layout { file_systems, shared, kept, left: Vec::new(), swap };
    layout.check_ownership()?;
    Ok(layout)
}

fn source_mounts<'a>(source: &'a [FileSystemUse], esps: &[PathBuf]) -> SourceMounts<'a> {
    let mut source_mounts = SourceMounts::new();
    for line in source.iter().filter(|line| line.fs_type != "swap") {
        let Ok(mountpoint) = MountPoint::try_from(line.mountpoint.as_path()) else { continue };
        let is_esp = line.device.as_ref().is_some_and(|d| esps.contains(d))
            || is_esp_mount_point(&mountpoint, line);
        let source_mount = match is_on_disk(&mountpoint, line) {
            // A /boot on the ESP itself is copied, because each BE has its own kernels.
            true if is_esp
                && mountpoint.as_path() != Path::new("/boot")
                && !mountpoint.is_root() =>
            {
                SourceMount::Esp
            }
            true => SourceMount::Disk(line),
            false => SourceMount::Other(line),
        };
        source_mounts.insert(mountpoint, source_mount);
    }
    source_mounts
}

fn is_esp_mount_point(mountpoint: &MountPoint, line: &FileSystemUse) -> bool {
    matches!(line.fs_type.as_str(), "vfat" | "msdos" | "auto")
        && ["/boot/efi", "/efi"].iter().any(|p| mountpoint.as_path() == Path::new(p))
}

/// Whether a line is a file system on a disk of this machine that is mounted at boot. /boot counts
/// even if it is mounted only on request, which some administrators do.
fn is_on_disk(mountpoint: &MountPoint, line: &FileSystemUse) -> bool {
    let removable = matches!(line.fs_type.as_str(), "iso9660" | "udf" | "udf,iso9660");
    let on_request =
        line.is_bind() || line.has_option("noauto") && !is_never_shared(mountpoint.as_path());
    mountpoint.is_root() || line.names_device() && !removable && !on_request
}

/// Whether the content of a source file system is copied to the target.
fn is_copied(mountpoint: &MountPoint, placement: Option<&Placement<Provision>>) -> bool {
    match placement.map(|w| &w.kind) {
        Some(PlacementKind::Shared(_)) => false,
        Some(_) => true,
        None => is_copied_unless_named(mountpoint.as_path()),
    }
}

fn is_copied_unless_named(path: &Path) -> bool {
    SYSTEM_PLACES.iter().any(|place| path == Path::new(place)) || path.starts_with("/boot")
}

/// What a copy has of a line of its source's fstab, if `-m` does not name the mount point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// A copy of the file system.
    Copied,
    /// The same file system or swap space.
    Shared,
    /// The same line, which names no disk.
    Kept,
}

impl Treatment {
    /// That of a line of fstab.
    pub fn of(line: &FileSystemUse) -> Self {
        if line.fs_type == "swap" {
            return Treatment::Shared;
        }
        let Ok(mountpoint) = MountPoint::try_from(line.mountpoint.as_path()) else {
            return Treatment::Kept;
        };
        let is_esp = is_esp_mount_point(&mountpoint, line);
        match is_on_disk(&mountpoint, line) {
            false => Treatment::Kept,
            true if is_copied_unless_named(mountpoint.as_path()) && !is_esp => Treatment::Copied,
            true => Treatment::Shared,
        }
    }
}

/// Checks a placement against what the source mounts there.
fn check(
    placement: &Placement<Provision>,
    mountpoint: &MountPoint,
    source_mount: Option<&SourceMount>,
) -> Result<()> {
    let refuse = |why: String| Err(Refusal::Other(format!("-m {}: {why}", placement.text)).into());
    match (&placement.kind, source_mount) {
        (PlacementKind::Shared(_), source_mount)
            if is_never_shared(mountpoint.as_path()) && source_mount != Some(&SourceMount::Esp) =>
        {
            refuse(format!(
                "{mountpoint} is never shared, because every boot environment has its own: leave \
                this out, or give it a device (-m {mountpoint}:DEVICE:FSTYPE)"
            ))
        }
        (PlacementKind::Merged(_), _) if mountpoint.is_root() => Err(placement
            .error("/ cannot be merged into anything: give it a device (-m /:DEVICE:FSTYPE)")),
        (PlacementKind::Shared(_) | PlacementKind::Merged(_), None) => {
            Err(placement.error(format_args!(
                "{mountpoint} is not a separate file system in the source: leave this out"
            )))
        }
        (PlacementKind::Shared(_), Some(_))
        | (PlacementKind::Merged(_), Some(SourceMount::Disk(_))) => Ok(()),
        (PlacementKind::Swap { .. }, _) => Ok(()),
        (_, Some(SourceMount::Esp)) => refuse(format!(
            "{mountpoint} is the EFI system partition, which stays shared (the new loader is \
            written to the one on the disk of its root): leave this out"
        )),
        (_, Some(SourceMount::Other(line))) => Err(placement.error(format_args!(
            "{mountpoint} is '{}' ({}) in the source's fstab and is not copied: leave this out, \
            or change that line first",
            line.spec, line.fs_type
        ))),
        (PlacementKind::FileSystem { fs_type, .. }, source_mount) => {
            if needed_before_mounts(mountpoint) {
                return Err(placement.error(format_args!(
                    "{mountpoint} must be on the root file system, because a system needs it \
                    before it can mount anything: leave this out"
                )));
            }
            let was_vfat =
                matches!(source_mount, Some(SourceMount::Disk(line)) if line.fs_type == "vfat");
            if *fs_type == FsType::Vfat && !was_vfat {
                return Err(placement.error(
                    "vfat has no owners, modes, hard links or symlinks: use ext4, xfs or btrfs",
                ));
            }
            Ok(())
        }
    }
}

fn needed_before_mounts(mountpoint: &MountPoint) -> bool {
    const FIRST: [&str; 11] =
        ["etc", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "dev", "proc", "sys", "run"];
    let first = mountpoint.relative().iter().next().unwrap_or_default();
    FIRST.iter().any(|name| first == *name)
}

fn no_root(mountpoint: &MountPoint) -> Error {
    Error::Failed(format!(
        "the target has no file system for {mountpoint}: give -m /:DEVICE:FSTYPE"
    ))
}

fn target<'a>(
    placement: &'a Placement<Provision>,
    source_mounts: &SourceMounts,
) -> Option<(&'a MountPoint, TargetFileSystem)> {
    let PlacementKind::FileSystem { mountpoint, device, fs_type, options } = &placement.kind else {
        return None;
    };
    let options = options.clone().unwrap_or_else(|| match source_mounts.get(mountpoint) {
        Some(SourceMount::Disk(line)) => inherited_options(line, *fs_type),
        _ => "defaults".into(),
    });
    let target = TargetFileSystem {
        mountpoint: mountpoint.clone(),
        provision: device.clone(),
        fs_type: *fs_type,
        options,
        sources: Vec::new(),
    };
    Some((mountpoint, target))
}
