//! The place of a file system, and the only way to mount it.

use std::borrow::Cow;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, openat, statx};
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

use super::device::{BlockDevice, Devices};
use super::device_number::DeviceNumber;
use super::hold::{Hold, open_as_found};
use super::mount_call::{GUARDED, MountCall, READ_ONLY, attach, attach_as_it_is, bind, copy_of};
use super::mount_place::MountPlace;
use super::mounts::{Mount, Mounted, Mounts};
use super::namespace::in_private_namespace;
use super::probe::{Kind, OpenDevice};
use super::retry::{BUSY_TIMEOUT, SCAN_TIMEOUT};
use super::stack::Stack;
use super::subvolume::{self, Subvolume};
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::sys;

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

    /// What a line of fstab(5) with these options mounts of a device.
    ///
    /// # Errors
    /// The options do not name a subvolume as btrfs(5) says.
    pub fn of_line(devices: &Devices, device: &BlockDevice, options: &str) -> Result<Self> {
        let subvolume = match device.content.kind() {
            Some(Kind::Btrfs) => Subvolume::of_line(options)?,
            _ => None,
        };
        Ok(Self::of(devices, device).with_subvolume(subvolume))
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

/// The purpose of a mount, which decides what may be done through it.
#[derive(Clone, Copy, Debug)]
pub enum Access<'a> {
    /// A scan reads a device that may be hostile: not one byte of it changes, and none of its
    /// programs can run (docs/design.md, invariant 7). The scan does not wait for a busy device.
    Look,
    /// A command reads a device that it names: not one byte of it changes, but its programs can
    /// run.
    Read,
    /// Lifeboat writes to the file system, on the device that is held. Like all accesses but
    /// [`Access::Run`], this one makes set-user-ID bits and device nodes ineffective, and one can
    /// still make them.
    Write(&'a Hold),
    /// The file system is mounted with these options of its fstab(5).
    Use(&'a str),
    /// As [`Access::Use`], for a command of its own system, whose set-user-ID programs must work.
    Run(&'a str),
}

impl Access<'_> {
    /// Whether a mount that exists already serves as well.
    fn is_for_reading(self) -> bool {
        matches!(self, Access::Look | Access::Read)
    }

    /// The flags of a mount for reading.
    fn flags(self) -> MountFlags {
        if matches!(self, Access::Look) { READ_ONLY | MountFlags::NOEXEC } else { READ_ONLY }
    }
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
        let _device = self.hold(access)?;
        let this = self.resolved()?;
        let existing = match access.is_for_reading() {
            true => this.show_mounted(mounts, access.flags(), &MountPlace::open(at)?)?,
            false => None,
        };
        let mounted = match existing {
            Some(mounted) => mounted,
            None => mount(this.call(at), access)?,
        };
        this.prove(at, this.visible_at(at)?.is_some())?;
        Ok(mounted)
    }

    /// As [`FileSystem::show`], for a directory that somebody else may move meanwhile: the mount is
    /// attached to the open directory, whatever its path leads to by then.
    ///
    /// # Errors
    /// As [`FileSystem::show`].
    pub fn show_on(
        &self,
        mounts: &Mounts,
        access: Access<'_>,
        place: &MountPlace,
    ) -> Result<Mounted> {
        let _device = self.hold(access)?;
        let this = self.resolved()?;
        if access.is_for_reading()
            && let Some(mounted) = this.show_mounted(mounts, access.flags(), place)?
        {
            return Ok(mounted);
        }
        let (detached, warnings) = this.call(place.path()).detached(|call| mount(call, access))?;
        let mounted = attach_as_it_is(&detached, place)?.with_warnings(warnings);
        this.prove(place.path(), this.is_root_of(&detached)?)?;
        Ok(mounted)
    }

    fn prove(&self, at: &Path, is_shown: bool) -> Result<()> {
        if is_shown {
            return Ok(());
        }
        Err(Error::Failed(format!(
            "{} does not show {} after it was mounted there: was the disk replaced?",
            at.display(),
            self.volume.node().display()
        )))
    }

    /// The file system with its default subvolume named, if that is what is to be mounted.
    fn resolved(&self) -> Result<Cow<'_, Self>> {
        if self.volume.subvolume != Some(Subvolume::Default) {
            return Ok(Cow::Borrowed(self));
        }
        let mut named = self.clone();
        named.volume.subvolume = Subvolume::with_id(self.default_subvolume()?);
        Ok(Cow::Owned(named))
    }

    /// The id of the default subvolume of a btrfs; 5 is the top level.
    ///
    /// # Errors
    /// It cannot be mounted.
    pub fn default_subvolume(&self) -> Result<u64> {
        let call =
            MountCall { subvolume: Some(&Subvolume::Default), ..self.call(Path::new("/proc")) };
        let (mount, _) = call.detached(|call| call.unchanged(READ_ONLY, SCAN_TIMEOUT))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(&mount, ".", flags, Mode::empty())
            .and_then(|root| sys::subvolume(&root))
            .at("reading the default subvolume of", self.volume.node())
            .map(|info| info.id())
    }

    /// Refuses to write to a device through the hold of another one, and to another device than
    /// the one that was found. While the returned file is open, the device stays the same.
    fn hold(&self, access: Access<'_>) -> Result<Option<OpenDevice>> {
        match access {
            Access::Write(hold) if hold.device().number != self.volume.device.number => {
                Err(Error::NotHeld { device: self.volume.node().to_owned() })
            }
            Access::Use(_) | Access::Run(_) => open_as_found(&self.volume.device).map(Some),
            _ => Ok(None),
        }
    }

    /// A directory at which it is mounted and not hidden; with `writable`, one through which it can
    /// be written to.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn mount_point(&self, mounts: &Mounts, writable: bool) -> Result<Option<VisibleMount>> {
        let this = self.resolved()?;
        let usable = |m: &&Mount| this.is_shown_by(m) && !(writable && m.is_read_only());
        for mount in mounts.iter().filter(usable) {
            if let Some(root) = this.visible_at(&mount.mount_point)? {
                return Ok(Some(VisibleMount {
                    mount_point: mount.mount_point.clone(),
                    _root: root,
                }));
            }
        }
        Ok(None)
    }

    /// The ids of the subvolumes that are mounted.
    pub fn mounted_subvolumes(&self, mounts: &Mounts) -> Vec<u64> {
        let is_here = |mount: &&Mount| {
            mount.fs_type == "btrfs"
                && (mount.is_of(&self.volume.device) || self.is_member(&mount.source))
        };
        let id = |mount: &Mount| {
            subvolume::SubvolumeOptions::parse(&mount.super_options)
                .id
                .and_then(subvolume::parse_id)
        };
        mounts.iter().filter(is_here).filter_map(id).collect()
    }

    fn call<'a>(&'a self, at: &'a Path) -> MountCall<'a> {
        MountCall {
            device: self.volume.node(),
            fs_type: self.kind.name(),
            subvolume: self.volume.subvolume.as_ref(),
            at,
        }
    }

    /// Binds an existing mount of it to a place; `None` if there is none.
    fn show_mounted(
        &self,
        mounts: &Mounts,
        flags: MountFlags,
        place: &MountPlace,
    ) -> Result<Option<Mounted>> {
        let mut is_mounted = false;
        for mount in mounts.iter().filter(|mount| self.is_shown_by(mount)) {
            is_mounted = true;
            if let Some(root) = self.visible_at(&mount.mount_point)? {
                return bind(root, place, flags).map(Some);
            }
        }
        if !is_mounted {
            return Ok(None);
        }
        // It is mounted, perhaps for writing, so it cannot also be mounted read-only.
        self.uncovered()?.map(|mount| attach(mount, place, flags)).transpose()
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
                    return copy_of(root).at("opening the mount on", &mount.mount_point).map(Some);
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
        Ok(self.is_root_of(&root)?.then_some(root))
    }

    /// Whether an open directory is the root of this file system, in a mount of the calling
    /// thread's namespace.
    fn is_root_of(&self, directory: impl AsFd) -> Result<bool> {
        let seen = statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
            .doing(|| "reading the mount id of a directory".into())?;
        // It must not be a directory inside the file system.
        let is_top = seen.stx_attributes.contains(StatxAttributes::MOUNT_ROOT);
        let table = Mounts::read(&Host::local())?;
        let mount = table.by_id(seen.stx_mnt_id);
        Ok(mount.is_some_and(|mount| is_top && self.is_shown_by(mount)))
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
                // `resolved` has named it.
                Some(Subvolume::Default) => false,
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

/// Makes the mount that an access needs if there is none to bind.
fn mount(call: MountCall<'_>, access: Access<'_>) -> Result<Mounted> {
    match access {
        Access::Look => call.unchanged(access.flags(), SCAN_TIMEOUT),
        Access::Read => call.unchanged(access.flags(), BUSY_TIMEOUT),
        Access::Write(hold) => {
            hold.release();
            hold.refuse_exchanged()?;
            call.for_writing()
        }
        Access::Use(options) => call.with_options(options, GUARDED),
        Access::Run(options) => call.with_options(options, MountFlags::empty()),
    }
}

#[cfg(test)]
mod tests;
