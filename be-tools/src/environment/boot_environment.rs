//! A boot environment, as a scan finds it on a disk.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::descriptor::Descriptor;
use super::mark::MadeDevice;
use super::operation::{Operation, State};
use super::problem::{AMBIGUOUS_ROOT, FSTAB_AMBIGUOUS, HIBERNATED, Problem};
use crate::error::Refusal;
use crate::root_dir::RootDir;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::probe::Kind;
use crate::storage::subvolume::Subvolume;

/// The operating system of a BE, from os-release(5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatingSystem {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`; empty if there is none.
    pub version_id: String,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
}

impl OperatingSystem {
    /// What os-release(5) of a root directory says; `None` if there is none that can be read.
    pub fn of(root: &RootDir) -> Option<Self> {
        Self::text(root).map(|text| Self::parse(&text))
    }

    /// The text of os-release(5) of a root directory; `None` if there is none that can be read.
    pub fn text(root: &RootDir) -> Option<String> {
        let text = |path: &str| root.text(path).ok().flatten();
        text("etc/os-release").or_else(|| text("usr/lib/os-release"))
    }

    /// Parses os-release(5): shell assignments, whose values may be quoted.
    pub fn parse(text: &str) -> Self {
        let value = |key: &str| Self::value(text, key);
        let id = value("ID").unwrap_or_else(|| "linux".into());
        OperatingSystem {
            version_id: value("VERSION_ID").unwrap_or_default(),
            pretty_name: value("PRETTY_NAME")
                .or_else(|| value("NAME"))
                .unwrap_or_else(|| id.clone()),
            id,
        }
    }

    /// The value of a field of os-release(5), such as `VERSION_CODENAME`.
    pub fn value(text: &str, key: &str) -> Option<String> {
        let raw = text
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))?
            .trim();
        let quoted = raw.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
        let quoted = quoted.or_else(|| raw.strip_prefix('\'').and_then(|r| r.strip_suffix('\'')));
        let mut plain = String::new();
        let mut chars = quoted.unwrap_or(raw).chars();
        while let Some(c) = chars.next() {
            let c = if c == '\\' { chars.next().unwrap_or(c) } else { c };
            plain.extend((!c.is_control()).then_some(c));
        }
        Some(plain)
    }

    /// A short name for a column: `Debian 12`, else the pretty name, else `unknown`.
    pub fn short(&self) -> String {
        let mut letters = self.id.chars();
        match (letters.next(), self.version_id.as_str()) {
            (Some(first), version) if !version.is_empty() => {
                format!("{}{} {version}", first.to_uppercase(), letters.as_str())
            }
            _ if !self.pretty_name.is_empty() => self.pretty_name.clone(),
            _ => "unknown".into(),
        }
    }
}

/// Where a system keeps what it is made of. A copy has these of its own, and the fstab of another
/// BE does not make them shared.
pub const SYSTEM_PLACES: [&str; 5] = ["/", "/usr", "/boot", "/var", "/opt"];

/// Whether each BE has this mount point for itself, even if an administrator wants to share it.
pub fn is_never_shared(mountpoint: &Path) -> bool {
    ["/", "/usr", "/var"].iter().any(|place| mountpoint == Path::new(place))
        || mountpoint.starts_with("/boot")
}

/// The root file system of a BE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The device node, such as `/dev/vda2`.
    pub device: PathBuf,
    /// The file system type.
    pub fs_type: String,
    /// The UUID of the file system.
    pub uuid: String,
    /// The path of the btrfs subvolume, if it is one.
    pub subvolume: Option<String>,
    /// The disk, such as `/dev/vda`.
    pub disk: PathBuf,
}

/// One line of a BE's fstab, with the device that it names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemUse {
    /// The mount point, or `none` for swap.
    pub mountpoint: PathBuf,
    /// The device field of the line.
    pub spec: String,
    /// The device, if it was found.
    pub device: Option<PathBuf>,
    /// The type field of the line.
    pub fs_type: String,
    /// The options field of the line.
    pub options: String,
    /// The size in bytes, if the device was found.
    pub size: Option<u64>,
    /// Whether it is shared with other BEs.
    pub shared: bool,
}

impl FileSystemUse {
    /// Whether an option without a value is set.
    pub fn has_option(&self, name: &str) -> bool {
        self.options.split(',').any(|option| option == name)
    }

    /// Whether its first field names a device of this machine, by its node or by what it holds.
    pub fn names_device(&self) -> bool {
        const NAMES: [&str; 6] = ["/dev/", "UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "ID="];
        NAMES.iter().any(|name| self.spec.starts_with(name))
    }

    /// The subvolume that it mounts of this device; `None` is the top level, which holds all. An
    /// option that names none counts as that.
    pub fn subvolume(&self, device: &BlockDevice) -> Option<Subvolume> {
        match device.content.kind() {
            Some(Kind::Btrfs) => Subvolume::of_line(&self.options).unwrap_or_default(),
            _ => None,
        }
    }

    /// Whether it is the ESP's, by where it is mounted and its type.
    pub fn is_esp(&self) -> bool {
        let place = self.mountpoint.to_string_lossy();
        matches!(self.fs_type.as_str(), "vfat" | "msdos" | "auto")
            && (place == "/efi" || place.starts_with("/boot/efi"))
    }

    /// Whether it shows a directory of a file system that is mounted elsewhere.
    pub fn is_bind(&self) -> bool {
        self.has_option("bind") || self.has_option("rbind")
    }
}

#[cfg(test)]
impl FileSystemUse {
    /// A line for an ext4 of its own, for tests.
    pub(crate) fn example(mountpoint: &str, device: &str) -> Self {
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
}

/// The state of a BE's trial (docs/design.md, "Trial, confirm, fallback").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// The BE will be tried at the next boot.
    Pending,
    /// The BE is running, but not confirmed yet.
    Running,
    /// The BE was tried, but another one is running.
    Failed,
    /// The BE was activated, but will not be tried.
    Interrupted,
}

/// A BE as it was found on a disk, managed or unmanaged. This is what `be list --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootEnvironment {
    /// Its unique name on a command line.
    pub reference: String,
    /// Its descriptor, if it is managed and the descriptor can be read.
    pub descriptor: Option<Descriptor>,
    /// Its operating system.
    pub os: OperatingSystem,
    /// The release of the kernel that it would boot, if it has one.
    pub kernel: Option<String>,
    /// Its root file system.
    pub root: Root,
    /// Whether nothing can be written to its root, as to a snapshot.
    #[serde(skip)]
    pub read_only: bool,
    /// The lines of its fstab.
    pub file_systems: Vec<FileSystemUse>,
    /// The devices that were made for it: its descriptor says for what, they bear the mark of that,
    /// and its fstab names them for it. The root may be one of them.
    #[serde(default)]
    pub made: Vec<MadeDevice>,
    /// Whether it is the running system.
    pub running: bool,
    /// Whether the firmware will start it next.
    pub next_boot: bool,
    /// The number of its `Boot####` variable.
    pub boot_entry: Option<u16>,
    /// Its trial that is not confirmed.
    pub trial: Option<Trial>,
    /// The bytes in use on its root file system.
    pub used: Option<u64>,
    /// Why it would not boot; empty if it is healthy.
    pub problems: Vec<Problem>,
    /// The directories on which it is mounted.
    pub mounted_at: Vec<PathBuf>,
}

impl BootEnvironment {
    /// A BE with a root device and nothing else, before it is filled.
    pub fn empty(device: &Path) -> Self {
        BootEnvironment {
            reference: format!("@{}", device.display()),
            descriptor: None,
            os: OperatingSystem::default(),
            kernel: None,
            root: Root {
                device: device.to_owned(),
                fs_type: String::new(),
                uuid: String::new(),
                subvolume: None,
                disk: device.to_owned(),
            },
            read_only: false,
            file_systems: Vec::new(),
            made: Vec::new(),
            running: false,
            next_boot: false,
            boot_entry: None,
            trial: None,
            used: None,
            problems: Vec::new(),
            mounted_at: Vec::new(),
        }
    }

    /// Whether it has a descriptor.
    pub fn is_managed(&self) -> bool {
        self.descriptor.is_some()
    }

    /// The name in its descriptor, else its reference.
    pub fn name(&self) -> &str {
        self.descriptor.as_ref().map_or(self.reference.as_str(), |d| d.name.as_str())
    }

    /// `complete`, `incomplete (create)` or `unmanaged`.
    pub fn state_text(&self) -> String {
        self.descriptor.as_ref().map_or_else(|| "unmanaged".into(), Descriptor::state_text)
    }

    /// Whether it is complete, or unmanaged, and nothing is known against it but that a copy of it
    /// has the same UUIDs.
    pub fn is_whole(&self) -> bool {
        let copied = [AMBIGUOUS_ROOT, FSTAB_AMBIGUOUS];
        self.descriptor.as_ref().is_none_or(|d| d.refuse_incomplete().is_ok())
            && self.problems.iter().all(|problem| copied.contains(&&*problem.code))
    }

    /// The swap files that its fstab names.
    pub fn swap_files(&self) -> Vec<PathBuf> {
        let swap = self.file_systems.iter().filter(|f| f.fs_type == "swap" && f.device.is_none());
        let paths = swap.map(|f| PathBuf::from(&f.spec));
        paths.filter(|path| path.is_absolute() && !path.starts_with("/dev")).collect()
    }

    /// Whether its creation may not have finished, so that its fstab may still be that of its
    /// source.
    pub fn is_unfinished(&self) -> bool {
        let copying = |operation| matches!(operation, Some(Operation::Create | Operation::Delete));
        self.descriptor
            .as_ref()
            .is_some_and(|d| d.state == State::Incomplete && copying(d.operation))
    }

    /// Whether it is an unmanaged system on a portable disk, and does not run. What its fstab says
    /// of the other disks was written for another machine.
    pub fn is_visitor(&self, devices: &Devices) -> bool {
        !self.is_managed() && !self.running && self.is_on_portable_disk(devices)
    }

    /// Whether its root is on a portable disk, or on several of which one is: under a volume or an
    /// array, too.
    pub fn is_on_portable_disk(&self, devices: &Devices) -> bool {
        let device = devices.by_node(&self.root.device);
        device.is_some_and(|device| {
            device.is_portable()
                || devices.disks_of(device).into_iter().any(BlockDevice::is_portable)
        })
    }

    /// What a change of the BE does to its trial, if one is pending.
    pub fn trial_called_off(&self) -> Option<String> {
        let name = self.name();
        (self.trial == Some(Trial::Pending)).then(|| {
            format!(
                "the pending trial of '{name}' is called off: `be activate {name}` begins it again"
            )
        })
    }

    /// Refuses the BE that runs, with what to do instead.
    ///
    /// # Errors
    /// [`Refusal::Running`].
    pub fn refuse_running(&self, way_out: &str) -> Result<(), Refusal> {
        match self.running {
            false => Ok(()),
            true => Err(Refusal::Running { name: self.name().into(), way_out: way_out.to_owned() }),
        }
    }

    /// Refuses a BE whose root is mounted.
    ///
    /// # Errors
    /// [`Refusal::EnvironmentMounted`].
    pub fn refuse_mounted(&self) -> Result<(), Refusal> {
        match self.mounted_at.first() {
            None => Ok(()),
            Some(place) => Err(Refusal::EnvironmentMounted {
                name: self.reference.clone(),
                mountpoint: place.display().to_string(),
            }),
        }
    }

    /// Refuses to write to a hibernated BE.
    ///
    /// # Errors
    /// [`Refusal::Hibernated`].
    pub fn refuse_hibernated(&self) -> Result<(), Refusal> {
        match self.problems.iter().find(|problem| problem.code == HIBERNATED) {
            None => Ok(()),
            Some(problem) => {
                Err(Refusal::Hibernated { name: self.name().into(), why: problem.text.clone() })
            }
        }
    }

    /// Every device that only this BE uses: that of its root and those of its copied file systems.
    /// As long as its fstab may be that of its source, only its root and the devices that were made
    /// for it are included.
    pub fn own_devices(&self) -> Vec<&PathBuf> {
        let own = self.file_systems.iter().filter(|f| !f.shared && !self.is_unfinished());
        let copied = own.filter_map(|f| f.device.as_ref());
        let made = self.made.iter().map(|made| &made.device);
        let mut all: Vec<_> = std::iter::once(&self.root.device).collect();
        for device in copied.chain(made) {
            if !all.contains(&device) {
                all.push(device);
            }
        }
        all
    }

    /// The devices that were made for it and are erased with it, the root first.
    pub fn made_devices(&self) -> Vec<&PathBuf> {
        let made = self.made.iter().map(|made| &made.device);
        let made = made.filter(|device| **device != self.root.device);
        std::iter::once(&self.root.device).chain(made).collect()
    }

    /// Whether a device was made for it.
    pub fn has_made(&self, device: &Path) -> bool {
        self.made.iter().any(|made| made.device == device)
    }

    /// The devices that it may mount. The fstab of an unfinished copy may be that of its source,
    /// and says nothing.
    pub fn named_devices(&self) -> impl Iterator<Item = &PathBuf> {
        let lines = self.file_systems.iter().filter(|_| !self.is_unfinished());
        let made = self.made.iter().map(|made| &made.device);
        std::iter::once(&self.root.device)
            .chain(lines.filter_map(|line| line.device.as_ref()))
            .chain(made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A copy of the whole disk has the UUIDs of the ESP and of /boot, too.
    #[test]
    fn a_boot_environment_whose_disk_was_copied_as_a_whole_is_whole() {
        let mut environment = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        environment.problems =
            [AMBIGUOUS_ROOT, FSTAB_AMBIGUOUS].map(|code| Problem::new(code, "x")).into();
        assert!(environment.is_whole());
        environment.problems.push(Problem::new(HIBERNATED, "x"));
        assert!(!environment.is_whole());
    }

    #[test]
    fn the_fstab_of_an_unfinished_copy_names_devices_of_its_source() {
        let mut copy = BootEnvironment::empty(Path::new("/dev/vdb1"));
        copy.file_systems.push(FileSystemUse::example("/var", "/dev/vda3"));
        let mut descriptor = Descriptor::new("copy".parse().unwrap(), None);
        copy.descriptor = Some(descriptor.clone());
        assert_eq!(copy.own_devices(), [Path::new("/dev/vdb1")]);
        (descriptor.state, descriptor.operation) = (State::Complete, None);
        copy.descriptor = Some(descriptor);
        assert_eq!(copy.own_devices(), [Path::new("/dev/vdb1"), Path::new("/dev/vda3")]);
    }
}
