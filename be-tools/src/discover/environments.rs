//! Makes boot environments from what was read on each file system. Does no I/O.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::scan::NestedFileSystem;
use crate::environment::facts::Facts;
use crate::environment::health;
use crate::environment::{
    BootEnvironment, FileSystemUse, MadeDevice, OperatingSystem, Purpose, Root, SYSTEM_PLACES,
};
use crate::fstab::{Entry, Fstab, Spec};
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::mounts::{Mount, Mounts};
use crate::storage::probe::Kind;
use crate::storage::volume::{FileSystem, Volume};

/// A root file system that was found.
pub(super) struct FoundRoot<'a> {
    pub(super) file_system: &'a FileSystem,
    pub(super) facts: Facts,
}

impl FoundRoot<'_> {
    fn device(&self) -> &BlockDevice {
        &self.file_system.volume.device
    }
}

/// The separate file systems that a root needs to boot: /usr and /boot, if it has them.
pub(super) fn nested(root: &FoundRoot, devices: &Devices) -> Vec<NestedFileSystem> {
    let Some(text) = &root.facts.fstab else { return Vec::new() };
    let fstab = Fstab::parse(text);
    ["/usr", "/boot"]
        .iter()
        .filter_map(|mount_point| {
            let entry = fstab.entries().find(|e| e.mountpoint() == Path::new(mount_point))?;
            let device = device_of(entry, root.device(), devices)?;
            device.content.kind().filter(|kind| kind.can_hold_root() || *kind == Kind::Vfat)?;
            let volume = Volume::of_line(devices, device, &entry.options()).ok()?;
            let file_system = FileSystem::found(volume);
            Some(NestedFileSystem {
                mount_point: mount_point.into(),
                file_system: file_system.ok()?,
            })
        })
        .collect()
}

/// The device that a line of fstab names. Where several match, which one is mounted is chance, so
/// that it names none. Only of the root it is known which one it is.
fn device_of<'a>(
    entry: &Entry,
    root: &BlockDevice,
    devices: &'a Devices,
) -> Option<&'a BlockDevice> {
    let spec = entry.spec();
    match entry.device() {
        Spec::Path(path) if !path.starts_with("/dev") => return None,
        Spec::Other(_) => return None,
        _ => {}
    }
    match devices.lookup(&spec)[..] {
        [one] => Some(one),
        ref several if entry.mountpoint() == Path::new("/") => {
            several.iter().find(|d| d.number == root.number).copied()
        }
        _ => None,
    }
}

/// Whether a root is a snapshot of another one on the same file system: nothing can be written to
/// it, and its descriptor is that of the other one. It is not a boot environment of its own.
fn is_snapshot(root: &FoundRoot, roots: &[FoundRoot]) -> bool {
    let Some(descriptor) = &root.facts.descriptor else { return false };
    let is_same = |other: &&FoundRoot| {
        other.device().number == root.device().number
            && other.facts.descriptor.as_ref().is_some_and(|d| d.id == descriptor.id)
    };
    let same = || roots.iter().filter(is_same);
    // All of them are read-only where the system itself is, as on openSUSE MicroOS. The scan reads
    // the one that is mounted by default first.
    let original = same().find(|other| !other.facts.read_only).or_else(|| same().next());
    root.facts.read_only && original.is_some_and(|original| !std::ptr::eq(original, root))
}

/// What was found on the machine itself.
pub(super) struct Machine<'a> {
    pub(super) devices: &'a Devices,
    pub(super) mounts: &'a Mounts,
    /// The root directory of the running system.
    pub(super) root: &'a Path,
}

/// All boot environments, in the order of their devices, each with a unique reference.
pub(super) fn environments(roots: &[FoundRoot], machine: &Machine) -> Vec<BootEnvironment> {
    let devices = machine.devices;
    let roots: Vec<&FoundRoot> = roots.iter().filter(|root| !is_snapshot(root, roots)).collect();
    let mut all: Vec<BootEnvironment> =
        roots.iter().map(|root| environment(root, machine)).collect();
    all.iter_mut().for_each(|environment| environment.made = made(environment, devices));
    mark_shared(&mut all, devices);
    for (environment, root) in all.iter_mut().zip(roots) {
        environment.problems = health::problems(&root.facts, environment, devices);
    }
    set_references(&mut all, devices);
    all
}

fn environment(root: &FoundRoot, machine: &Machine) -> BootEnvironment {
    let Machine { devices, mounts, .. } = machine;
    let (device, facts) = (root.device(), &root.facts);
    let fs_type = device.content.kind().map_or("", Kind::name);
    let is_here = |mount: &&Mount| {
        let inside = mount.root.strip_prefix("/").unwrap_or(&mount.root);
        mount.is_of(device) && inside == Path::new(facts.subvolume.as_deref().unwrap_or(""))
    };
    let mounted_at: Vec<PathBuf> =
        mounts.iter().filter(is_here).map(|m| m.mount_point.clone()).collect();
    let running = mounts.at(machine.root).as_ref().is_some_and(is_here);
    BootEnvironment {
        reference: String::new(),
        descriptor: facts.descriptor.clone(),
        os: facts.os.clone().unwrap_or_else(|| OperatingSystem {
            id: "linux".into(),
            ..OperatingSystem::default()
        }),
        kernel: facts.kernel().map(|k| k.release.clone()),
        root: Root {
            device: device.node.clone(),
            fs_type: fs_type.into(),
            uuid: device.super_block().map(|s| s.uuid.to_string()).unwrap_or_default(),
            subvolume: facts.subvolume.clone(),
            disk: devices.disk_of(device).node.clone(),
        },
        read_only: facts.read_only,
        file_systems: file_systems(root, devices, running.then_some(*mounts)),
        made: Vec::new(),
        running,
        next_boot: false,
        boot_entry: None,
        trial: None,
        used: facts.used,
        problems: Vec::new(),
        mounted_at,
    }
}

/// The most BEs that an unfinished one replaces: each interruption of its creation adds one.
const MAX_REPLACED: usize = 16;

/// The devices that were made for a BE. The word of its descriptor is not enough: the device bears
/// the mark of the BE, alone, and the line of fstab for that purpose names it. An unfinished BE may
/// not have that line yet. A line whose device is gone gets the device with the mark: a refresh was
/// interrupted while it took over a file system.
fn made(environment: &mut BootEnvironment, devices: &Devices) -> Vec<MadeDevice> {
    let Some(descriptor) = &environment.descriptor else { return Vec::new() };
    let is_unfinished = environment.is_unfinished();
    let mut all = Vec::new();
    for purpose in &descriptor.made {
        let marked = |id| match devices.lookup(&format!("UUID={}", purpose.uuid(id)?))[..] {
            [device] => Some(device),
            _ => None,
        };
        let replaced = descriptor.replaces.iter().filter(|_| is_unfinished).take(MAX_REPLACED);
        let mut ids = std::iter::once(descriptor.id).chain(replaced.copied());
        let Some(device) = ids.find_map(marked) else { continue };
        let kind = device.content.kind();
        if device.is_esp() || !kind.is_some_and(|k| k.is_file_system() || k == Kind::Swap) {
            continue;
        }
        let is_for = |line: &&mut FileSystemUse| match purpose {
            Purpose::Swap(_) => {
                line.fs_type == "swap" && line.device.as_ref() == Some(&device.node)
            }
            _ => line.fs_type != "swap" && purpose.is_mounted_on(&line.mountpoint),
        };
        let is_named = match environment.file_systems.iter_mut().find(is_for) {
            Some(line) if line.device.is_none() => {
                (line.device, line.size) = (Some(device.node.clone()), Some(device.size));
                true
            }
            Some(line) => line.device.as_ref() == Some(&device.node),
            None => false,
        };
        if is_named || is_unfinished {
            all.push(MadeDevice { purpose: purpose.clone(), device: device.node.clone() });
        }
    }
    all
}

/// A warning for each BE of which a unit mounts a file system that fstab does not name.
pub(super) fn mounted_by_units(roots: &[FoundRoot], all: &[BootEnvironment]) -> Vec<String> {
    let warning = |environment: &BootEnvironment| {
        let is_its = |root: &&FoundRoot| {
            root.device().node == environment.root.device
                && root.facts.subvolume == environment.root.subvolume
        };
        let places = &roots.iter().find(is_its)?.facts.mount_units;
        (!places.is_empty()).then(|| {
            format!(
                "'{}' mounts {} by units of systemd: be copies and mounts only what is in fstab, so \
                write lines there instead",
                environment.name(),
                places.join(" and ")
            )
        })
    };
    all.iter().filter_map(warning).collect()
}

/// The device of a line of the running BE's fstab that several match, such as a file system and the
/// snapshot of its volume: the one that is mounted there.
fn device_at<'a>(entry: &Entry, devices: &'a Devices, mounts: &Mounts) -> Option<&'a BlockDevice> {
    let mount = mounts.at(&entry.mountpoint())?;
    devices.lookup(&entry.spec()).into_iter().find(|device| mount.is_of(device))
}

/// The lines of fstab with the devices that they name, the root first. `mounted` are the mounts of
/// the running BE.
fn file_systems(
    root: &FoundRoot,
    devices: &Devices,
    mounted: Option<&Mounts>,
) -> Vec<FileSystemUse> {
    let fstab = Fstab::parse(root.facts.fstab.as_deref().unwrap_or_default());
    let shared = root.facts.descriptor.as_ref().map(|d| d.shared.as_slice()).unwrap_or_default();
    let mut all: Vec<FileSystemUse> = fstab
        .entries()
        .map(|entry| {
            let device = device_of(entry, root.device(), devices)
                .or_else(|| mounted.and_then(|mounts| device_at(entry, devices, mounts)));
            let mountpoint = entry.mountpoint();
            FileSystemUse {
                // Its own word makes nothing shared that no BE shares.
                shared: shared.contains(&mountpoint) && !is_own(&mountpoint)
                    || device.is_some_and(BlockDevice::is_esp),
                mountpoint,
                spec: entry.spec(),
                fs_type: entry.fs_type(),
                options: entry.options(),
                size: device.map(|d| d.size),
                device: device.map(|d| d.node.clone()),
            }
        })
        .collect();
    let is_root = |f: &FileSystemUse| f.mountpoint == Path::new("/");
    if !all.iter().any(is_root) {
        all.push(FileSystemUse {
            mountpoint: "/".into(),
            spec: String::new(),
            device: Some(root.device().node.clone()),
            fs_type: root.device().content.kind().map_or("", Kind::name).into(),
            options: "defaults".into(),
            size: Some(root.device().size),
            shared: false,
        });
    }
    all.sort_by_key(|f| !is_root(f));
    all
}

/// Whether each BE has this mount point for itself. Below /boot there may be the ESP.
fn is_own(mountpoint: &Path) -> bool {
    ["/", "/usr", "/var", "/boot"].iter().any(|place| mountpoint == Path::new(place))
}

/// Marks each device that several BEs use as shared, unless it was made for this one or is what it
/// is made of: the fstab of another BE does not change what is this BE's own.
fn mark_shared(all: &mut [BootEnvironment], devices: &Devices) {
    let mut users: HashMap<PathBuf, Vec<usize>> = HashMap::new();
    for (index, environment) in all.iter().enumerate() {
        let named = environment.named_devices().filter(|_| !environment.is_visitor(devices));
        for device in std::iter::once(&environment.root.device).chain(named) {
            let users = users.entry(device.clone()).or_default();
            if !users.contains(&index) {
                users.push(index);
            }
        }
    }
    for environment in all {
        let made: Vec<PathBuf> = environment.made.iter().map(|made| made.device.clone()).collect();
        for f in &mut environment.file_systems {
            let Some(device) = &f.device else { continue };
            let others = users.get(device).is_some_and(|users| users.len() > 1);
            let is_its_system = SYSTEM_PLACES.iter().any(|place| f.mountpoint == Path::new(place));
            f.shared |= others && !is_its_system && !made.contains(device);
        }
    }
}

/// Gives each BE its reference: its name if that is unique, else `NAME@DEVICE`;
/// `@DEVICE[:SUBVOLUME]` for an unmanaged one.
fn set_references(all: &mut [BootEnvironment], devices: &Devices) {
    let mut count: HashMap<String, usize> = HashMap::new();
    for environment in all.iter() {
        if let Some(descriptor) = &environment.descriptor {
            *count.entry(descriptor.name.as_str().to_ascii_lowercase()).or_default() += 1;
        }
    }
    for environment in all {
        let device = devices
            .by_node(&environment.root.device)
            .map_or_else(String::new, |d| d.short_name().to_owned());
        let place = match &environment.root.subvolume {
            Some(subvolume) => format!("@{device}:{subvolume}"),
            None => format!("@{device}"),
        };
        environment.reference = match &environment.descriptor {
            None => place,
            Some(d) if count.get(&d.name.as_str().to_ascii_lowercase()) == Some(&1) => {
                d.name.to_string()
            }
            Some(d) => format!("{}{place}", d.name),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Descriptor;
    use crate::storage::device_number::DeviceNumber;
    use crate::storage::probe::{FsUuid, SuperBlock};

    #[test]
    fn the_fstab_of_another_be_does_not_make_shared_what_a_be_is_made_of() {
        let be = |root: &str, place: &str| {
            let mut be = BootEnvironment::empty(Path::new(root));
            be.file_systems =
                vec![FileSystemUse::example("/", root), FileSystemUse::example(place, "/dev/vda5")];
            be
        };
        for (place, is_shared) in
            [("/var", false), ("/usr", false), ("/boot", false), ("/opt", false), ("/home", true)]
        {
            let mut all = [be("/dev/vda1", place), be("/dev/sdb1", "/srv")];
            mark_shared(&mut all, &Devices::default());
            let shared: Vec<bool> = all[0].file_systems.iter().map(|f| f.shared).collect();
            assert_eq!(shared, [false, is_shared], "{place}");
        }
    }

    #[test]
    fn a_descriptor_shares_nothing_that_each_be_has_for_itself() {
        let device = BlockDevice::example("vda1", SuperBlock::new(Kind::Ext4));
        let devices: Devices = [device.clone()].into_iter().collect();
        let file_system = FileSystem::found(Volume::of(&devices, &device)).unwrap();
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        let places = ["/usr", "/boot", "/boot/efi", "/var", "/opt", "/home"];
        descriptor.shared = places.map(PathBuf::from).to_vec();
        let fstab = places.map(|place| format!("UUID=gone {place} ext4 defaults 0 2\n")).concat();
        let facts = Facts { descriptor: Some(descriptor), fstab: Some(fstab), ..Facts::default() };
        let found = file_systems(&FoundRoot { file_system: &file_system, facts }, &devices, None);
        let shared: Vec<_> = found.iter().filter(|f| f.shared).map(|f| &*f.mountpoint).collect();
        assert_eq!(shared, ["/boot/efi", "/opt", "/home"].map(Path::new));
    }

    #[test]
    fn a_line_that_several_devices_match_names_the_one_that_is_mounted() {
        let device = |name: &str, minor| {
            let uuid = FsUuid::parse("0b9e6cd0-5e3a-4b0e-9d5e-1f2d3c4b5a69");
            let found = SuperBlock { uuid, ..SuperBlock::new(Kind::Ext4) };
            let number = DeviceNumber { major: 253, minor };
            BlockDevice { number, ..BlockDevice::example(name, found) }
        };
        let devices: Devices = [device("dm-1", 1), device("dm-2", 2)].into_iter().collect();
        let fstab =
            Fstab::parse("UUID=0b9e6cd0-5e3a-4b0e-9d5e-1f2d3c4b5a69 /var ext4 defaults 0 2\n");
        let line = fstab.entries().next().unwrap();
        let found = |table: &str| device_at(line, &devices, &Mounts::parse(table.as_bytes()));
        let mounted = "40 1 253:2 / /var rw - ext4 /dev/dm-2 rw\n";
        assert_eq!(found(mounted).map(|device| &*device.name), Some("dm-2"));
        assert_eq!(found("40 1 253:2 / /srv rw - ext4 /dev/dm-2 rw\n"), None);
        assert_eq!(found("40 1 8:1 / /var rw - ext4 /dev/sda1 rw\n"), None);
    }
}
