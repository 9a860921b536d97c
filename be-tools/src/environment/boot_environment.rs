//! A boot environment as it is found on a disk.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::descriptor::{Descriptor, Operation, State};
use super::problem::Problem;

/// The operating system of a BE, from os-release(5).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatingSystem {
    /// `ID`, such as `debian`.
    pub id: String,
    /// `VERSION_ID`, such as `12`; empty where there is none.
    pub version_id: String,
    /// `PRETTY_NAME`.
    pub pretty_name: String,
}

impl OperatingSystem {
    /// For a column: `Debian 12`, else the pretty name, else `unknown`.
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

/// Where a BE's root file system lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Device node, such as `/dev/vda2`.
    pub device: PathBuf,
    /// File system type.
    pub fs_type: String,
    /// UUID of the file system.
    pub uuid: String,
    /// btrfs subvolume path, where it is one.
    pub subvolume: Option<String>,
    /// The disk, such as `/dev/vda`.
    pub disk: PathBuf,
}

/// One line of a BE's fstab, resolved against the devices found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystemUse {
    /// Mount point, or `none` for swap.
    pub mountpoint: PathBuf,
    /// As fstab names it.
    pub spec: String,
    /// The device found, if any.
    pub device: Option<PathBuf>,
    /// Type as fstab says.
    pub fs_type: String,
    /// Options as fstab says.
    pub options: String,
    /// Bytes, if the device was found.
    pub size: Option<u64>,
    /// Shared with other BEs.
    pub shared: bool,
}

/// How a trial of a BE stands (DESIGN.md, "Trial, confirm, fallback").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trial {
    /// Will be tried at the next boot.
    Pending,
    /// Runs now, not confirmed yet.
    Running,
    /// Was tried, and another BE runs.
    Failed,
    /// Was activated, but never tried.
    Interrupted,
}

/// A BE as found on a disk, managed or not. This is what `be list --json` prints.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BootEnvironment {
    /// What to call it on a command line: unique among what was found.
    pub reference: String,
    /// Its descriptor, when it is managed and the descriptor can be read.
    pub descriptor: Option<Descriptor>,
    /// Its operating system.
    pub os: OperatingSystem,
    /// Release of the kernel it would boot, if it has one.
    pub kernel: Option<String>,
    /// Where its root lies.
    pub root: Root,
    /// Its fstab, resolved.
    pub file_systems: Vec<FileSystemUse>,
    /// Devices of the file systems and swap spaces that were made for it; the root may be among
    /// them.
    #[serde(default)]
    pub made: Vec<PathBuf>,
    /// It is the system that runs.
    pub running: bool,
    /// The firmware will start it next.
    pub next_boot: bool,
    /// Number of its `Boot####` variable.
    pub boot_entry: Option<u16>,
    /// A trial of it that is not confirmed.
    pub trial: Option<Trial>,
    /// Bytes in use on its root file system.
    pub used: Option<u64>,
    /// Why it would not boot; empty means healthy.
    pub problems: Vec<Problem>,
    /// Where it is mounted now.
    pub mounted_at: Vec<PathBuf>,
}

impl BootEnvironment {
    /// Nothing but a root device: what an empty BE is before anything is put into it.
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

    /// It has a descriptor.
    pub fn is_managed(&self) -> bool {
        self.descriptor.is_some()
    }

    /// The descriptor's name, else the reference.
    pub fn name(&self) -> &str {
        self.descriptor.as_ref().map_or(self.reference.as_str(), |d| d.name.as_str())
    }

    /// `complete`, `incomplete (create)` or `unmanaged`.
    pub fn state_text(&self) -> String {
        self.descriptor.as_ref().map_or_else(|| "unmanaged".into(), Descriptor::state_text)
    }

    /// A create of it did not end, perhaps, so that its fstab may still be its source's.
    pub fn is_unfinished(&self) -> bool {
        let copying = |operation| matches!(operation, Some(Operation::Create | Operation::Delete));
        self.descriptor
            .as_ref()
            .is_some_and(|d| d.state == State::Incomplete && copying(d.operation))
    }

    /// Every device that belongs to it alone: root and copied file systems. Until a copy is
    /// complete, its fstab may still be the source's: then only its root and what was made for it
    /// are known to be its own.
    pub fn own_devices(&self) -> Vec<&PathBuf> {
        let own = self.file_systems.iter().filter(|f| !f.shared && !self.is_unfinished());
        let copied = own.filter_map(|f| f.device.as_ref());
        let mut all: Vec<_> = std::iter::once(&self.root.device).collect();
        for device in copied.chain(&self.made) {
            if !all.contains(&device) {
                all.push(device);
            }
        }
        all
    }

    /// What was made for it and goes with it, the root first.
    pub fn made_devices(&self) -> Vec<&PathBuf> {
        let made = self.made.iter().filter(|device| **device != self.root.device);
        std::iter::once(&self.root.device).chain(made).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fstab_of_an_unfinished_copy_names_devices_of_its_source() {
        let mut copy = BootEnvironment::empty(Path::new("/dev/vdb1"));
        copy.file_systems.push(FileSystemUse {
            mountpoint: "/var".into(),
            spec: "UUID=1".into(),
            device: Some("/dev/vda3".into()),
            fs_type: "ext4".into(),
            options: "defaults".into(),
            size: None,
            shared: false,
        });
        let mut descriptor = Descriptor::new("copy".parse().unwrap(), None);
        copy.descriptor = Some(descriptor.clone());
        assert_eq!(copy.own_devices(), [Path::new("/dev/vdb1")]);
        (descriptor.state, descriptor.operation) = (State::Complete, None);
        copy.descriptor = Some(descriptor);
        assert_eq!(copy.own_devices(), [Path::new("/dev/vdb1"), Path::new("/dev/vda3")]);
    }
}
