//! The place of a file system, and the only way to mount it.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx};
use rustix::mount::{MountFlags, OpenTreeFlags, UnmountFlags, open_tree, unmount};
use serde::{Deserialize, Serialize};

use super::device::{BlockDevice, Devices};
use super::device_number::DeviceNumber;
use super::hold::Hold;
use super::mount_call::{MountCall, READ_ONLY, attach, bind};
use super::mounts::{Mount, Mounted, Mounts};
use super::namespace::in_private_namespace;
use super::probe::Kind;
use super::retry::{BUSY_TIMEOUT, SCAN_TIMEOUT};
use super::stack::Stack;
use super::subvolume::{self, Subvolume};
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::plan::PlannedDevice;

/// The place of a file system: a device, or a subvolume of one. (A directory of one is added with
/// the BEs that are directories.) It is resolved once, then passed on as a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// The device, as it was found.
    pub device: Arc<BlockDevice>,
    /// The subvolume of a btrfs; `None` is the top level.
    pub subvolume: Option<Subvolume>,
    /// The layers under the device.
    pub stack: Stack,
}

impl Volume {
    /// The whole of a device.
    pub fn of(devices: &Devices, device: &BlockDevice) -> Self {
        let stack = Stack::of(devices, device);
        Volume { device: Arc::new(device.clone()), subvolume: None, stack }
    }

    /// The same device with this subvolume.
    pub fn with_subvolume(self, subvolume: Option<Subvolume>) -> Self {
        Volume { subvolume, ..self }
    }

    /// The device node.
    pub fn node(&self) -> &Path {
        &self.device.node
    }
}

/// The place for a new file system, which a plan may have to make first.
///
/// Today it always exists. Planned are variants for places that do not exist yet, each with the
/// parent that its line in a plan names: `Partition` (of free space on a disk), `LogicalVolume` (of
/// a group), `Subvolume` and `Snapshot` (of a btrfs or a pool), `Directory` (of a file system), and
/// `Mapping` (LUKS over another provision).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provision {
    /// It exists already, and is erased or filled.
    Existing(Volume),
}

impl Provision {
    /// The volume, once it has been made.
    pub fn volume(&self) -> &Volume {
        match self {
            Provision::Existing(volume) => volume,
        }
    }

    /// A place on a device that no machine has, for tests.
    #[cfg(test)]
    pub(crate) fn example(node: &str) -> Self {
        let device = Arc::new(BlockDevice::bare(Path::new(node)));
        Provision::Existing(Volume { device, subvolume: None, stack: Stack::default() })
    }

    /// Its line in a plan.
    pub fn planned(&self, becomes: impl Into<String>) -> PlannedDevice {
        match self {
            Provision::Existing(volume) => volume.device.planned(becomes),
        }
    }
}

/// The purpose of a mount, which decides what may be done through it.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// A scan reads a device that may be hostile: not one byte of it changes, and none of its
    /// programs can run (docs/design.md, invariant 7). The scan does not wait for a busy device.
    Look,
    /// A command reads a device that it names: not one byte of it changes, but its programs can
    /// run.
    Read,
    /// Lifeboat writes to the file system, on the device that is held.
    Write(&'a Hold),
    /// The file system is mounted as its own system does, with these options of its fstab(5).
    Use(&'a str),
}

/// A file system on a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSystem {
    /// The device and subvolume.
    pub volume: Volume,
    /// Its type.
    pub kind: Kind,
    /// Its UUID; empty if the format has none.
    pub uuid: String,
}

/// Where a file system is mounted and visible. While this exists the mount is in use, so that it
/// cannot be unmounted.
#[derive(Debug)]
pub struct VisibleMount {
    /// Where.
    pub mount_point: PathBuf,
    /// Its root directory, held open: that is what keeps the mount in use.
    _root: OwnedFd,
}

impl FileSystem {
    /// The file system that was found on a volume.
    ///
    /// # Errors
    /// The device does not hold a file system.
    pub fn found(volume: Volume) -> Result<Self> {
        let found = volume.device.super_block().filter(|found| found.kind.is_file_system());
        let Some((kind, uuid)) = found.map(|found| (found.kind, found.uuid.to_string())) else {
            return Err(Error::Failed(format!(
                "{} holds {}, which is not a file system",
                volume.node().display(),
                volume.device.content.description()
            )));
        };
        Ok(FileSystem { volume, kind, uuid })
    }

    /// Mounts the file system on the directory `at`, without what is mounted in it.
    ///
    /// For [`Access::Look`] and [`Access::Read`], a mount of it in `mounts` is bound, even if that
    /// one is hidden. Otherwise the device is mounted. Afterwards the id of the mount proves that
    /// `at` shows this file system and this subvolume.
    ///
    /// # Errors
    /// As mount(2), and `at` shows anything else afterwards.
    pub fn show(&self, mounts: &Mounts, access: Access<'_>, at: &Path) -> Result<Mounted> {
        let mounted = match access {
            Access::Look => {
                let flags = READ_ONLY | MountFlags::NOEXEC;
                match self.show_mounted(mounts, flags, at)? {
                    Some(mounted) => mounted,
                    None => self.call(at).unchanged(flags, SCAN_TIMEOUT)?,
                }
            }
            Access::Read => match self.show_mounted(mounts, READ_ONLY, at)? {
                Some(mounted) => mounted,
                None => self.call(at).unchanged(READ_ONLY, BUSY_TIMEOUT)?,
            },
            Access::Write(hold) => self.show_held(hold, at)?,
            Access::Use(options) => self.call(at).with_options(options)?,
        };
        match self.visible_at(at)? {
            Some(_) => Ok(mounted),
            None => Err(Error::Failed(format!(
                "{} does not show {} after it was mounted there: was the disk replaced?",
                at.display(),
                self.volume.node().display()
            ))),
        }
    }

    /// Mounts it for writing from a held device. The kernel mounts by name, and then shows what the
    /// name leads to: the caller proves that.
    fn show_held(&self, hold: &Hold, at: &Path) -> Result<Mounted> {
        if hold.device().number != self.volume.device.number {
            return Err(Error::NotHeld { device: self.volume.node().to_owned() });
        }
        hold.release();
        hold.refuse_exchanged()?;
        self.call(at).for_writing()
    }

    /// A directory at which it is mounted and not hidden; with `writable`, one through which it can
    /// be written to.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn mount_point(&self, mounts: &Mounts, writable: bool) -> Result<Option<VisibleMount>> {
        let usable = |m: &&Mount| self.is_shown_by(m) && !(writable && m.is_read_only());
        for mount in mounts.iter().filter(usable) {
            if let Some(root) = self.visible_at(&mount.mount_point)? {
                return Ok(Some(VisibleMount {
                    mount_point: mount.mount_point.clone(),
                    _root: root,
                }));
            }
        }
        Ok(None)
    }

    fn call<'a>(&'a self, at: &'a Path) -> MountCall<'a> {
        MountCall {
            device: self.volume.node(),
            fs_type: self.kind.name(),
            subvolume: self.volume.subvolume.as_ref(),
            at,
        }
    }

    /// Binds an existing mount of it to `at`; `None` if there is none.
    fn show_mounted(
        &self,
        mounts: &Mounts,
        flags: MountFlags,
        at: &Path,
    ) -> Result<Option<Mounted>> {
        let mut is_mounted = false;
        for mount in mounts.iter().filter(|mount| self.is_shown_by(mount)) {
            is_mounted = true;
            if let Some(root) = self.visible_at(&mount.mount_point)? {
                return bind(root, at, flags).map(Some);
            }
        }
        if !is_mounted {
            return Ok(None);
        }
        // It is mounted, perhaps for writing, so it cannot also be mounted read-only.
        self.uncovered()?.map(|mount| attach(mount, at, flags)).transpose()
    }

    /// A copy of a mount that is hidden. The mounts that hide it are removed in a private mount
    /// namespace, so that no other program is affected.
    fn uncovered(&self) -> Result<Option<OwnedFd>> {
        in_private_namespace(|| {
            let table = Mounts::read(&Host::local())?;
            for mount in table.iter().filter(|mount| self.is_shown_by(mount)) {
                for above in table.covering(mount) {
                    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
                    if let Err(why) = unmount(&above.mount_point, flags) {
                        log::debug!("uncovering {}: {why}", above.mount_point.display());
                    }
                }
                if let Some(root) = self.visible_at(&mount.mount_point)? {
                    let flags = OpenTreeFlags::OPEN_TREE_CLONE
                        | OpenTreeFlags::OPEN_TREE_CLOEXEC
                        | OpenTreeFlags::AT_EMPTY_PATH;
                    return open_tree(root, "", flags)
                        .at("opening the mount on", &mount.mount_point)
                        .map(Some);
                }
            }
            Ok(None)
        })
    }

    /// Opens the directory `path` in the calling thread's namespace; `None` if it is not the root
    /// of this file system.
    fn visible_at(&self, path: &Path) -> Result<Option<OwnedFd>> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let Ok(root) = openat(CWD, path, flags, Mode::empty()) else { return Ok(None) };
        let seen = statx(&root, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .at("reading the mount id of", path)?;
        // It must not be a directory inside the file system.
        let is_top = seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        let table = Mounts::read(&Host::local())?;
        let mount = table.by_id(seen.stx_mnt_id);
        Ok(mount.is_some_and(|mount| is_top && self.is_shown_by(mount)).then_some(root))
    }

    /// Whether a mount shows this file system and subvolume, from its root directory.
    fn is_shown_by(&self, mount: &Mount) -> bool {
        let is_here = if mount.number.major == 0 {
            // A btrfs has an anonymous number. The source of its mount can be any of its devices.
            mount.fs_type == "btrfs"
                && self.kind == Kind::Btrfs
                && (mount.is_of(&self.volume.device) || self.is_member(&mount.source))
        } else {
            mount.number == self.volume.device.number
        };
        let is_root = |path: &str| mount.root == Path::new("/").join(path.trim_matches('/'));
        is_here
            && match &self.volume.subvolume {
                None => is_root(""),
                Some(Subvolume::Path(path)) => is_root(path),
                Some(Subvolume::Id(id)) => {
                    let shown = subvolume::SubvolumeOptions::parse(&mount.super_options);
                    shown.id.and_then(subvolume::parse_id) == Some(*id)
                        && shown.path.is_some_and(is_root)
                }
            }
    }

    /// Whether the mounted btrfs with this UUID has both this device and `node`. A copy of it that
    /// has the same UUID is not one of its devices.
    fn is_member(&self, node: &Path) -> bool {
        let members = Host::local().sys.join("fs/btrfs").join(&self.uuid).join("devices");
        let Some(number) = DeviceNumber::of_node(node) else { return false };
        if self.uuid.is_empty() {
            return false;
        }
        let numbers: Vec<String> = std::fs::read_dir(members)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|member| std::fs::read_to_string(member.path().join("dev")).ok())
            .map(|text| text.trim().to_owned())
            .collect();
        [number, self.volume.device.number]
            .iter()
            .all(|DeviceNumber { major, minor }| numbers.contains(&format!("{major}:{minor}")))
    }
}

#[cfg(test)]
mod tests;
