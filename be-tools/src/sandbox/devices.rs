//! The devices that a command sees.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode};

use super::arguments::Arguments;
use super::control_group::ControlGroup;
use super::device_rules::Rule;
use crate::error::{Doing, Error, Result};
use crate::escape::complain;
use crate::host::Host;
use crate::storage::device_number::DeviceNumber;
use crate::storage::mounts::Mounts;

/// A character device that every program may expect.
struct Character {
    name: &'static str,
    number: DeviceNumber,
}

const CHARACTERS: [Character; 6] = [
    character("null", 1, 3),
    character("zero", 1, 5),
    character("full", 1, 7),
    character("random", 1, 8),
    character("urandom", 1, 9),
    character("tty", 5, 0),
];

const fn character(name: &'static str, major: u32, minor: u32) -> Character {
    Character { name, number: DeviceNumber { major, minor } }
}

/// Symlinks in /dev.
const SYMLINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// A node of a block device that a command sees.
#[derive(Debug)]
struct Node {
    path: PathBuf,
    uuid: Option<String>,
    number: DeviceNumber,
}

/// What a command sees in /dev, and the control group that keeps it from opening anything else.
#[derive(Debug)]
pub(super) struct Devices {
    nodes: Vec<Node>,
    privileged: bool,
    group: Option<ControlGroup>,
}

impl Devices {
    /// Decides what the command sees: of the given block devices those whose file system is mounted
    /// in its tree, because a descriptor or a fstab names any device that it likes. They are
    /// read-only. If the kernel cannot ensure that, there are none.
    ///
    /// A privileged command may write to them, and also has their whole disks.
    ///
    /// # Errors
    /// A device is not one, or the mount table cannot be read.
    pub(super) fn choose(arguments: &Arguments) -> Result<Self> {
        let table = Mounts::read(&Host::local())?;
        let root = fs::canonicalize(&arguments.root).at("opening", &arguments.root)?;
        let mut nodes = Vec::new();
        for (path, uuid) in &arguments.block_devices {
            let number = number_of(path)?;
            if is_mounted(&table, &root, number) {
                nodes.extend(Node::of(path, uuid.as_deref(), number, arguments.privileged));
            } else {
                log::info!("{} is not mounted in {}", path.display(), root.display());
            }
        }
        let privileged = arguments.privileged;
        let group = match ControlGroup::new() {
            Ok(group) if privileged => Some(group),
            Ok(group) => match group.allow_only(&rules(&nodes)) {
                Ok(()) => Some(group),
                Err(why) => return Ok(Self::without_nodes(nodes, &why)),
            },
            Err(why) if privileged => {
                log::info!("{why}");
                None
            }
            Err(why) => return Ok(Self::without_nodes(nodes, &why)),
        };
        Ok(Devices { nodes, privileged, group })
    }

    fn without_nodes(nodes: Vec<Node>, why: &Error) -> Self {
        if !nodes.is_empty() {
            complain(&format!(
                "{why}: the command does not see its own block devices, because this kernel cannot \
                make them read-only"
            ));
        }
        Devices { nodes: Vec::new(), privileged: false, group: None }
    }

    /// Fills the directory /dev, which is an empty tmpfs, and then joins the control group, in
    /// which no nodes can be made.
    ///
    /// # Errors
    /// As mknod(2).
    pub(super) fn make(&self) -> Result<()> {
        for Character { name, number } in CHARACTERS {
            make_node(&Path::new("/dev").join(name), FileType::CharacterDevice, 0o666, number)?;
        }
        for (name, to) in SYMLINKS {
            symlink(to, Path::new("/dev").join(name))
                .doing(|| format!("making /dev/{name} inside"))?;
        }
        self.nodes.iter().try_for_each(|node| node.make(self.privileged))?;
        self.group.as_ref().map_or(Ok(()), ControlGroup::join)
    }
}

fn rules(nodes: &[Node]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = CHARACTERS.iter().map(|c| Rule::character(c.number)).collect();
    rules.extend(Rule::terminals());
    for node in nodes {
        let rule = Rule::block(node.number);
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// The number of a block device whose node is below /dev.
fn number_of(path: &Path) -> Result<DeviceNumber> {
    let metadata = fs::metadata(path).at("reading the metadata of", path)?;
    if !metadata.file_type().is_block_device() || !path.starts_with("/dev") {
        let shown = path.display();
        return Err(Error::Failed(format!("{shown} is not a block device: name one under /dev")));
    }
    Ok(DeviceNumber::from_raw(metadata.rdev()))
}

/// Whether the file system on a device is mounted on `root` or below it.
fn is_mounted(table: &Mounts, root: &Path, number: DeviceNumber) -> bool {
    table.under(root).any(|mount| {
        // The number of a btrfs is anonymous.
        mount.number == number
            || mount.number.major == 0 && DeviceNumber::of_node(&mount.source) == Some(number)
    })
}

impl Node {
    /// The node of a device, another one under the kernel's own name, and if `with_disk`, that of
    /// the disk of a partition.
    fn of(path: &Path, uuid: Option<&str>, number: DeviceNumber, with_disk: bool) -> Vec<Node> {
        let mut found = vec![Node { path: path.to_owned(), uuid: uuid.map(str::to_owned), number }];
        let DeviceNumber { major, minor } = number;
        let sys = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
        // The given name may be a symlink, or a name that the device mapper made.
        if let Some(name) = sys.file_name() {
            let kernel = Path::new("/dev").join(name);
            if kernel != path {
                found.push(Node { path: kernel, uuid: None, number });
            }
        }
        if with_disk
            && sys.join("partition").exists()
            && let Some(disk) = sys.parent()
            && let Some(name) = disk.file_name()
            && let Ok(numbers) = fs::read_to_string(disk.join("dev"))
            && let Some((major, minor)) = numbers.trim().split_once(':')
            && let (Ok(major), Ok(minor)) = (major.parse(), minor.parse())
        {
            let number = DeviceNumber { major, minor };
            found.push(Node { path: Path::new("/dev").join(name), uuid: None, number });
        }
        found
    }

    fn make(&self, writable: bool) -> Result<()> {
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory).at("making", directory)?;
        }
        if !self.path.exists() {
            let mode = if writable { 0o660 } else { 0o440 };
            make_node(&self.path, FileType::BlockDevice, mode, self.number)?;
        }
        let Some(uuid) = &self.uuid else { return Ok(()) };
        let directory = Path::new("/dev/disk/by-uuid");
        fs::create_dir_all(directory).at("making", directory)?;
        let link = directory.join(uuid);
        if fs::symlink_metadata(&link).is_ok() {
            Ok(())
        } else {
            symlink(&self.path, &link).at("making", &link)
        }
    }
}

fn make_node(path: &Path, kind: FileType, mode: u32, number: DeviceNumber) -> Result<()> {
    let DeviceNumber { major, minor } = number;
    let raw = rustix::fs::makedev(major, minor);
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), raw).at("making", path)?;
    // The umask may have cleared bits.
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).at("making", path)
}
