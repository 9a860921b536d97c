//! The wishes that lead to the devices which a BE has already.

use std::path::{Path, PathBuf};

use super::mount_point::MountPoint;
use super::placement::{FsType, Placement, PlacementKind};
use crate::environment::{BootEnvironment, FileSystemUse};
use crate::error::Result;

/// The wishes that give a new BE the devices and types that were made for an old one.
///
/// # Errors
/// A type that be does not make.
pub fn placements_replacing(old: &BootEnvironment, esps: &[PathBuf]) -> Result<Vec<Placement>> {
    own_file_systems(old, esps)
        .filter(|own| own.mountpoint == Path::new("/") || old.made.contains(&own.device))
        .map(|own| OwnFileSystem { options: None, ..own }.placement())
        .collect()
}

/// The wishes that describe a BE as it is, so that it can be filled again: its own file systems
/// with their options, and what of `source` is part of them. `has_content`: whether something lies
/// in a directory of the BE.
///
/// # Errors
/// A type that be does not make.
pub fn placements_of(
    target: &BootEnvironment,
    source: &BootEnvironment,
    esps: &[PathBuf],
    has_content: impl Fn(&Path) -> bool,
) -> Result<Vec<Placement>> {
    let mut placements: Vec<Placement> =
        own_file_systems(target, esps).map(|own| own.placement()).collect::<Result<_>>()?;
    // What lies beneath a mount point is hidden, so a directory is empty unless a file system was
    // merged into it.
    let in_fstab =
        |f: &FileSystemUse| target.file_systems.iter().any(|own| own.mountpoint == f.mountpoint);
    let on_request =
        |f: &&FileSystemUse| f.options.split(',').any(|o| matches!(o, "noauto" | "bind" | "rbind"));
    let mounted =
        source.file_systems.iter().filter(|f| f.device.is_some() && f.mountpoint.is_absolute());
    for merged in mounted.filter(|f| !on_request(f)) {
        let Ok(mountpoint) = MountPoint::try_from(merged.mountpoint.as_path()) else { continue };
        let is_esp = merged.device.as_ref().is_some_and(|device| esps.contains(device));
        if !mountpoint.is_root()
            && !is_esp
            && !in_fstab(merged)
            && has_content(mountpoint.as_path())
        {
            placements.push(Placement {
                text: format!("{mountpoint}:merged"),
                kind: PlacementKind::Merged(mountpoint),
            });
        }
    }
    Ok(placements)
}

/// A file system that is a BE's own.
struct OwnFileSystem {
    mountpoint: PathBuf,
    device: PathBuf,
    fs_type: String,
    options: Option<String>,
}

impl OwnFileSystem {
    fn placement(self) -> Result<Placement> {
        let fs_type: FsType = self.fs_type.parse()?;
        let mountpoint = MountPoint::try_from(self.mountpoint.as_path())?;
        let device = self.device.display().to_string();
        Ok(Placement {
            text: format!("{mountpoint}:{device}:{fs_type}"),
            kind: PlacementKind::FileSystem { mountpoint, device, fs_type, options: self.options },
        })
    }
}

fn own_file_systems<'a>(
    environment: &'a BootEnvironment,
    esps: &'a [PathBuf],
) -> impl Iterator<Item = OwnFileSystem> + 'a {
    let is_root = |f: &&FileSystemUse| f.mountpoint == Path::new("/");
    let root = OwnFileSystem {
        mountpoint: "/".into(),
        device: environment.root.device.clone(),
        fs_type: environment.root.fs_type.clone(),
        options: environment.file_systems.iter().find(is_root).map(|f| f.options.clone()),
    };
    let nested = environment
        .file_systems
        .iter()
        .filter(|f| !f.shared && f.mountpoint.is_absolute() && f.mountpoint != Path::new("/"))
        .filter_map(|f| {
            Some(OwnFileSystem {
                mountpoint: f.mountpoint.clone(),
                device: f.device.clone()?,
                fs_type: f.fs_type.clone(),
                options: Some(f.options.clone()),
            })
        })
        .filter(|own| !esps.contains(&own.device));
    std::iter::once(root).chain(nested)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(device: &str, lines: &[(&str, &str, &str, bool)]) -> BootEnvironment {
        let mut found = BootEnvironment::empty(Path::new(device));
        found.root.fs_type = "ext4".into();
        let line =
            |&(mountpoint, device, options, shared): &(&str, &str, &str, bool)| FileSystemUse {
                mountpoint: mountpoint.into(),
                spec: device.into(),
                device: Some(device.into()),
                fs_type: "ext4".into(),
                options: options.into(),
                size: None,
                shared,
            };
        found.file_systems = lines.iter().map(line).collect();
        found
    }

    #[test]
    fn a_target_keeps_its_devices_and_what_was_merged_into_it() {
        let source = with(
            "/dev/vda1",
            &[
                ("/", "/dev/vda1", "defaults", false),
                ("/home", "/dev/vda2", "defaults", true),
                ("/srv", "/dev/vda3", "defaults", false),
                ("/data", "/dev/vda4", "defaults", false),
                ("/mnt", "/dev/vda5", "noauto", false),
            ],
        );
        let target = with(
            "/dev/vdb1",
            &[
                ("/", "/dev/vdb1", "noatime", false),
                ("/var", "/dev/vdb2", "defaults", false),
                ("/home", "/dev/vda2", "defaults", true),
            ],
        );
        let has_content = |place: &Path| place != Path::new("/data");
        let placements = placements_of(&target, &source, &[], has_content).unwrap();
        let texts: Vec<&str> = placements.iter().map(|placement| placement.text.as_str()).collect();
        assert_eq!(texts, ["/:/dev/vdb1:ext4", "/var:/dev/vdb2:ext4", "/srv:merged"]);
        assert!(
            matches!(&placements[0].kind, PlacementKind::FileSystem { options: Some(o), .. } if o == "noatime")
        );
        let replaced = |target: &BootEnvironment| placements_replacing(target, &[]).unwrap().len();
        assert_eq!(replaced(&target), 1, "/var was not made for it");
        let made = BootEnvironment { made: vec!["/dev/vdb2".into()], ..target };
        assert_eq!(replaced(&made), 2);
    }
}
