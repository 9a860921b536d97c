//! Placements on the devices that a BE already has.

use std::path::{Path, PathBuf};

use super::mount_point::MountPoint;
use super::placement::{FsType, Placement, PlacementKind};
use super::rules::Treatment;
use crate::environment::{BootEnvironment, FileSystemUse, MadeDevice, Purpose, is_never_shared};
use crate::error::{Error, Refusal, Result};

/// The placements that give a new BE the devices and types of an old one that it replaces.
/// `fs_type_of` says what a device holds.
///
/// # Errors
/// A file system that was made for it is gone, or be does not make file systems of that type.
pub fn placements_replacing(
    old: &BootEnvironment,
    esps: &[PathBuf],
    fs_type_of: impl Fn(&Path) -> Option<String>,
) -> Result<Vec<Placement>> {
    let made = old.descriptor.iter().flat_map(|descriptor| &descriptor.made);
    for purpose in made.filter(|purpose| !purpose.is_mounted_on(Path::new("/"))) {
        if matches!(purpose, Purpose::FileSystem(_))
            && !old.made.iter().any(|made| made.purpose == *purpose)
        {
            let (mountpoint, name) = (purpose.to_string(), old.name().into());
            return Err(Error::FileSystemNotFound { mountpoint, name });
        }
    }
    // The fstab of an unfinished copy may be that of its source.
    let unfinished = old.made.iter().filter(|_| old.is_unfinished()).filter_map(|made| {
        let Purpose::FileSystem(mountpoint) = &made.purpose else { return None };
        let (mountpoint, device) = (mountpoint.clone(), made.device.clone());
        let fs_type = fs_type_of(&device)?;
        Some(OwnFileSystem { mountpoint, device, fs_type, options: None })
    });
    let nested = own_file_systems(old, esps)
        .filter(|own| old.has_made(&own.device) && !old.is_unfinished())
        .chain(unfinished);
    let swap = old.made.iter().filter(|made| matches!(made.purpose, Purpose::Swap(_)));
    let swap = swap.map(|made| {
        let device = made.device.display().to_string();
        let text = format!("-:{device}:swap");
        Ok(Placement { text, kind: PlacementKind::Swap { device } })
    });
    std::iter::once(own_root(old))
        .chain(nested.filter(|own| own.mountpoint != Path::new("/")))
        .map(|own| OwnFileSystem { options: None, ..own }.placement())
        .chain(swap)
        .collect()
}

/// What a BE that will be refreshed consists of.
#[derive(Debug, Default)]
pub struct Existing {
    /// Its file systems that are filled.
    pub placements: Vec<Placement>,
    /// What else its fstab mounts, which stays as it is.
    pub left: Vec<MountPoint>,
}

/// What the user says about file systems of a BE of which nothing shows that they were made for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unproven<'a> {
    /// They are filled, and marked.
    pub take_over: &'a [MountPoint],
    /// They stay as they are.
    pub keep: &'a [MountPoint],
}

/// Two BEs whose directories can be looked at: the target and the source of a refresh.
pub struct Pair<'a> {
    /// The BE that will be refreshed.
    pub target: &'a BootEnvironment,
    /// Whether a directory of it contains anything.
    pub target_has: &'a dyn Fn(&Path) -> bool,
    /// The BE that is copied.
    pub source: &'a BootEnvironment,
    /// Whether a directory of its root file system contains anything.
    pub source_has: &'a dyn Fn(&Path) -> bool,
}

impl Pair<'_> {
    /// Describes the target as it is: its root and the file systems that were made for it, with
    /// their options, and the file systems of the source that were merged into them. Whatever else
    /// its fstab names is not written to.
    ///
    /// # Errors
    /// [`Refusal::Unproven`]: the source has files for a file system of which nothing shows that it
    /// was made for the target. It is gone, or be does not make file systems of that type.
    pub fn existing(&self, esps: &[PathBuf], say: Unproven<'_>) -> Result<Existing> {
        let mut existing = Existing::default();
        existing.placements.push(own_root(self.target).placement()?);
        for line in lines(self.target) {
            let Ok(mountpoint) = MountPoint::try_from(line.mountpoint.as_path()) else { continue };
            let is_esp = line.device.as_ref().is_some_and(|device| esps.contains(device));
            if mountpoint.is_root() || is_esp {
                continue;
            }
            if self.is_filled(line, &mountpoint, say) {
                existing
                    .placements
                    .extend(OwnFileSystem::of(line).map(|own| own.placement()).transpose()?);
            } else if self.is_left(line, &mountpoint, say)? {
                existing.left.push(mountpoint);
            }
        }
        existing.placements.extend(self.merged(esps));
        Ok(existing)
    }

    fn is_filled(&self, line: &FileSystemUse, mountpoint: &MountPoint, say: Unproven) -> bool {
        let is_made = |made: &MadeDevice| {
            made.purpose.is_mounted_on(&line.mountpoint)
                && Some(&made.device) == line.device.as_ref()
        };
        !line.shared && self.target.made.iter().any(is_made)
            || line.device.is_some() && say.take_over.contains(mountpoint)
    }

    /// Whether a line of the target's fstab that is not filled stays in it. If not, that of the
    /// source takes its place, which is one that a copy has as it is.
    fn is_left(
        &self,
        line: &FileSystemUse,
        mountpoint: &MountPoint,
        say: Unproven,
    ) -> Result<bool> {
        let of_source = self.source.file_systems.iter().find(|f| f.mountpoint == line.mountpoint);
        if say.keep.contains(mountpoint) {
            return Ok(true);
        }
        // What the source has there would be written to another file system of the target.
        let would_be_copied = match of_source {
            Some(line) => Treatment::of(line) == Treatment::Copied,
            None => (self.source_has)(&line.mountpoint),
        };
        let is_mounted = !is_on_request(line) || is_never_shared(mountpoint.as_path());
        if !would_be_copied || !line.names_device() || !is_mounted {
            let is_other =
                |of_source: &FileSystemUse| line.names_device() && line.device != of_source.device;
            return Ok(of_source.is_none_or(is_other));
        }
        // The target's own word, since an earlier --keep. That of another BE does not count.
        let descriptor = self.target.descriptor.as_ref();
        if descriptor.is_some_and(|d| d.shared.contains(&line.mountpoint)) {
            return Ok(true);
        }
        let name = self.target.name().to_owned();
        let mountpoint = mountpoint.to_string();
        match &line.device {
            None => Err(Error::FileSystemNotFound { mountpoint, name }),
            Some(device) => {
                let (device, from) = (device.display().to_string(), self.source.name().into());
                Err(Refusal::Unproven { name, mountpoint, device, from }.into())
            }
        }
    }

    /// The file systems of the source that were merged into those of the target. A copy does not
    /// contain what a mount hides, so a directory is empty unless a file system was merged into it.
    fn merged(&self, esps: &[PathBuf]) -> Vec<Placement> {
        let in_fstab = |f: &FileSystemUse| {
            self.target.file_systems.iter().any(|own| own.mountpoint == f.mountpoint)
        };
        let mounted = lines(self.source).filter(|f| f.device.is_some() && !is_on_request(f));
        let merged = mounted.filter_map(|line| {
            let mountpoint = MountPoint::try_from(line.mountpoint.as_path()).ok()?;
            let is_esp = line.device.as_ref().is_some_and(|device| esps.contains(device));
            let is_merged = !mountpoint.is_root()
                && !is_esp
                && !in_fstab(line)
                && (self.target_has)(mountpoint.as_path());
            is_merged.then(|| Placement {
                text: format!("{mountpoint}:merged"),
                kind: PlacementKind::Merged(mountpoint),
            })
        });
        merged.collect()
    }
}

/// A file system that only one BE uses.
struct OwnFileSystem {
    mountpoint: PathBuf,
    device: PathBuf,
    fs_type: String,
    options: Option<String>,
}

impl OwnFileSystem {
    fn of(line: &FileSystemUse) -> Option<Self> {
        Some(OwnFileSystem {
            mountpoint: line.mountpoint.clone(),
            device: line.device.clone()?,
            fs_type: line.fs_type.clone(),
            options: Some(line.options.clone()),
        })
    }

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

fn own_root(environment: &BootEnvironment) -> OwnFileSystem {
    let is_root = |f: &&FileSystemUse| f.mountpoint == Path::new("/");
    OwnFileSystem {
        mountpoint: "/".into(),
        device: environment.root.device.clone(),
        fs_type: environment.root.fs_type.clone(),
        options: environment.file_systems.iter().find(is_root).map(|f| f.options.clone()),
    }
}

/// The lines of fstab for something that is mounted on a directory.
fn lines(environment: &BootEnvironment) -> impl Iterator<Item = &FileSystemUse> {
    environment
        .file_systems
        .iter()
        .filter(|line| line.mountpoint.is_absolute() && line.fs_type != "swap")
}

fn own_file_systems<'a>(
    environment: &'a BootEnvironment,
    esps: &'a [PathBuf],
) -> impl Iterator<Item = OwnFileSystem> + 'a {
    lines(environment)
        .filter(|line| !line.shared)
        .filter_map(OwnFileSystem::of)
        .filter(|own| !esps.contains(&own.device))
}

fn is_on_request(line: &FileSystemUse) -> bool {
    line.is_bind() || line.has_option("noauto")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Descriptor;

    fn environment(device: &str, file_systems: Vec<FileSystemUse>) -> BootEnvironment {
        let mut found = BootEnvironment::empty(Path::new(device));
        found.root.fs_type = "ext4".into();
        found.file_systems = file_systems;
        found
    }

    fn line(mountpoint: &str, device: &str) -> FileSystemUse {
        FileSystemUse::example(mountpoint, device)
    }

    fn made(mountpoint: &str, device: &str) -> MadeDevice {
        MadeDevice { purpose: Purpose::FileSystem(mountpoint.into()), device: device.into() }
    }

    fn texts(existing: &Existing) -> Vec<&str> {
        existing.placements.iter().map(|placement| placement.text.as_str()).collect()
    }

    fn places(all: &[&str]) -> Vec<MountPoint> {
        all.iter().map(|place| MountPoint::try_from(Path::new(place)).unwrap()).collect()
    }

    fn existing(
        target: &BootEnvironment,
        source: &BootEnvironment,
        source_has: &[&str],
        say: Unproven,
    ) -> Result<Existing> {
        let target_has = |place: &Path| place != Path::new("/data");
        let source_has = |place: &Path| source_has.iter().any(|has| Path::new(has) == place);
        Pair { target, target_has: &target_has, source, source_has: &source_has }.existing(&[], say)
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
        let mut target = environment("/dev/vdb1", vec![root, line("/var", "/dev/vdb2"), home]);
        target.made = vec![made("/var", "/dev/vdb2")];
        let found = existing(&target, &source, &[], Unproven::default()).unwrap();
        assert_eq!(texts(&found), ["/:/dev/vdb1:ext4", "/var:/dev/vdb2:ext4", "/srv:merged"]);
        assert!(found.left.is_empty(), "/home is as in the source");
        let PlacementKind::FileSystem { options, .. } = &found.placements[0].kind else { panic!() };
        assert_eq!(options.as_deref(), Some("noatime"));
    }

    #[test]
    fn what_was_not_made_for_the_target_is_left_or_refused_but_never_filled() {
        let mut target = environment(
            "/dev/vdb1",
            vec![line("/", "/dev/vdb1"), line("/srv", "/dev/vdc1"), line("/var", "/dev/vdb2")],
        );
        // A mark for another purpose counts for nothing.
        target.made = vec![made("/opt", "/dev/vdc1"), made("/var", "/dev/vdb2")];
        let source = environment("/dev/vda1", vec![line("/", "/dev/vda1")]);
        let plain = Unproven::default();
        let found = existing(&target, &source, &["/var"], plain).unwrap();
        assert_eq!(texts(&found), ["/:/dev/vdb1:ext4", "/var:/dev/vdb2:ext4"]);
        assert_eq!(found.left, places(&["/srv"]));
        // The source has files there.
        let refused = existing(&target, &source, &["/srv"], plain).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::Unproven { .. })), "{refused}");
        let mut with_line = source.clone();
        with_line.file_systems.push(line("/srv", "/dev/vda2"));
        assert_eq!(existing(&target, &with_line, &[], plain).unwrap().left, places(&["/srv"]));
        with_line.file_systems[1].mountpoint = "/var".into();
        let unmarked = BootEnvironment { made: Vec::new(), ..target.clone() };
        let refused = existing(&unmarked, &with_line, &[], plain).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::Unproven { .. })), "{refused}");
        with_line.file_systems[1].mountpoint = "/srv".into();
        // The user says what becomes of it.
        let srv = places(&["/srv"]);
        let keep = Unproven { keep: &srv, ..plain };
        assert_eq!(existing(&target, &with_line, &[], keep).unwrap().left, srv);
        let take_over = Unproven { take_over: &srv, ..plain };
        let taken = existing(&target, &source, &["/srv"], take_over).unwrap();
        assert_eq!(texts(&taken)[1], "/srv:/dev/vdc1:ext4");
        // Its disk is away: the files of the source must not fill the root instead.
        target.file_systems[1].device = None;
        target.file_systems[1].spec = "UUID=1".into();
        let gone = existing(&target, &source, &["/srv"], plain).unwrap_err();
        assert!(matches!(gone, Error::FileSystemNotFound { .. }), "{gone}");
    }

    #[test]
    fn lines_that_only_the_target_has_stay() {
        let other = |mountpoint: &str, spec: &str, fs_type: &str| FileSystemUse {
            device: None,
            spec: spec.into(),
            fs_type: fs_type.into(),
            ..line(mountpoint, "")
        };
        let target = environment(
            "/dev/vdb1",
            vec![
                line("/", "/dev/vdb1"),
                other("/net", "host:/a", "nfs"),
                other("/tmp", "tmpfs", "tmpfs"),
                FileSystemUse { shared: true, ..line("/home", "/dev/vda2") },
            ],
        );
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        descriptor.shared = vec!["/home".into()];
        let target = BootEnvironment { descriptor: Some(descriptor), ..target };
        let tmp = other("/tmp", "tmpfs", "tmpfs");
        let source = environment("/dev/vda1", vec![line("/", "/dev/vda1"), tmp]);
        let found = existing(&target, &source, &["/net", "/home"], Unproven::default()).unwrap();
        assert_eq!(found.left, places(&["/net", "/home"]));
    }

    #[test]
    fn a_replaced_target_gives_what_was_made_for_it() {
        let mut old =
            environment("/dev/vdb1", vec![line("/", "/dev/vdb1"), line("/var", "/dev/vdb2")]);
        let replaced = |old: &BootEnvironment| {
            let fs_type_of = |_: &Path| Some("xfs".to_owned());
            placements_replacing(old, &[], fs_type_of)
                .map(|all| all.into_iter().map(|placement| placement.text).collect::<Vec<_>>())
        };
        assert_eq!(replaced(&old).unwrap(), ["/:/dev/vdb1:ext4"], "/var was not made for it");
        old.made = vec![made("/var", "/dev/vdb2")];
        assert_eq!(replaced(&old).unwrap(), ["/:/dev/vdb1:ext4", "/var:/dev/vdb2:ext4"]);
        // An interrupted create may not have its own fstab yet.
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        descriptor.made = vec![Purpose::FileSystem("/var".into())];
        old.descriptor = Some(descriptor);
        old.file_systems.truncate(1);
        assert_eq!(replaced(&old).unwrap(), ["/:/dev/vdb1:ext4", "/var:/dev/vdb2:xfs"]);
        old.made.clear();
        let gone = replaced(&old).unwrap_err();
        assert!(matches!(gone, Error::FileSystemNotFound { .. }), "{gone}");
    }
}
