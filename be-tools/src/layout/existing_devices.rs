//! Placements on the devices that a BE already has.

use std::path::{Path, PathBuf};

use super::mount_point::MountPoint;
use super::placement::{FsType, Placement, PlacementKind};
use crate::environment::{BootEnvironment, FileSystemUse};
use crate::error::Result;

/// The placements that give a new BE the devices and types of an old one that it replaces.
///
/// # Errors
/// be does not make file systems of that type.
pub fn placements_replacing(old: &BootEnvironment, esps: &[PathBuf]) -> Result<Vec<Placement>> {
    own_file_systems(old, esps)
        .filter(|own| own.mountpoint == Path::new("/") || old.made.contains(&own.device))
        .map(|own| OwnFileSystem { options: None, ..own }.placement())
        .collect()
}

/// The placements that describe a BE as it is, so that it can be refreshed: its own file systems
/// with their options, and the file systems of `source` that were merged into them. `has_content`
/// says whether a directory of the BE contains anything.
///
/// # Errors
/// be does not make file systems of that type.
pub fn placements_of(
    target: &BootEnvironment,
    source: &BootEnvironment,
    esps: &[PathBuf],
    has_content: impl Fn(&Path) -> bool,
) -> Result<Vec<Placement>> {
    let mut placements: Vec<Placement> =
        own_file_systems(target, esps).map(|own| own.placement()).collect::<Result<_>>()?;
    // A copy does not contain what a mount hides, so a directory is empty unless a file system was
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

/// A file system that only one BE uses.
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

    fn environment(device: &str, file_systems: Vec<FileSystemUse>) -> BootEnvironment {
        let mut found = BootEnvironment::empty(Path::new(device));
        found.root.fs_type = "ext4".into();
        found.file_systems = file_systems;
        found
    }

    fn line(mountpoint: &str, device: &str) -> FileSystemUse {
        FileSystemUse {
            mountpoint: mountpoint.into(),
            spec: device.into(),
            device: Some(device.into()),
            fs_type: "ext4".into(),
            options: "defaults".into(),
            size: None,
            shared: false,
        }
    }

    #[test]
    fn a_target_keeps_its_devices_and_its_merged_file_systems() {
        let home = FileSystemUse { shared: true, ..line("/home", "/dev/vda2") };
        let source = environment(
            "/dev/vda1",
            vec![
                line("/", "/dev/vda1"),
                home.clone(),
                line("/srv", "/dev/vda3"),
                line("/data", "/dev/vda4"),
                FileSystemUse { options: "noauto".into(), ..line("/mnt", "/dev/vda5") },
            ],
        );
        let root = FileSystemUse { options: "noatime".into(), ..line("/", "/dev/vdb1") };
        let target = environment("/dev/vdb1", vec![root, line("/var", "/dev/vdb2"), home]);
        let has_content = |place: &Path| place != Path::new("/data");
        let placements = placements_of(&target, &source, &[], has_content).unwrap();
        let texts: Vec<&str> = placements.iter().map(|placement| placement.text.as_str()).collect();
        assert_eq!(texts, ["/:/dev/vdb1:ext4", "/var:/dev/vdb2:ext4", "/srv:merged"]);
        let PlacementKind::FileSystem { options, .. } = &placements[0].kind else { panic!() };
        assert_eq!(options.as_deref(), Some("noatime"));
        let replaced = |target: &BootEnvironment| placements_replacing(target, &[]).unwrap().len();
        assert_eq!(replaced(&target), 1, "/var was not made for it");
        let made = BootEnvironment { made: vec!["/dev/vdb2".into()], ..target };
        assert_eq!(replaced(&made), 2);
    }
}
