//! The mount table (`/proc/thread-self/mountinfo`, proc(5)), and mounts that end with their handle.

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags, openat, statx};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

use super::device::BlockDevice;
use super::device_number::DeviceNumber;
use super::retry::{BUSY_TIMEOUT, SCAN_TIMEOUT, retry_busy};
use crate::error::{Doing, Error, Result};
use crate::host::Host;

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Its id in the mount table.
    pub id: u64,
    /// The id of the mount on which it is mounted.
    pub parent: u64,
    /// The device number; an anonymous one (major 0) for a btrfs.
    pub number: DeviceNumber,
    /// The directory of the file system that is mounted; `/` unless it is a bind mount or a
    /// subvolume.
    pub root: PathBuf,
    /// The directory it is mounted on.
    pub mount_point: PathBuf,
    /// The options of this mount.
    pub options: String,
    /// The file system type.
    pub fs_type: String,
    /// The device node, or another text that depends on the type.
    pub source: PathBuf,
    /// The options of the file system.
    pub super_options: String,
}

impl Mount {
    /// Whether nothing can be written through this mount.
    pub fn is_read_only(&self) -> bool {
        has_option(&self.options, "ro") || has_option(&self.super_options, "ro")
    }

    /// Whether nothing can be written to the file system through any mount.
    pub fn is_file_system_read_only(&self) -> bool {
        has_option(&self.super_options, "ro")
    }

    /// Whether it is a mount of the file system on this device.
    pub fn is_of(&self, device: &BlockDevice) -> bool {
        // The number of a btrfs is anonymous, so its device is known only by its source.
        let is_source = || {
            self.source == device.node || DeviceNumber::of_node(&self.source) == Some(device.number)
        };
        self.number == device.number || self.number.major == 0 && is_source()
    }
}

fn has_option(options: &str, name: &str) -> bool {
    options.split(',').any(|option| option == name)
}

/// The mount table, in the order of mounting.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the mount table of the calling thread's namespace.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn read(host: &Host) -> Result<Self> {
        let path = host.proc.join("thread-self/mountinfo");
        std::fs::read(&path).at("reading", &path).map(|text| Self::parse(&text))
    }

    /// Parses the text of mountinfo. Lines that do not parse are left out.
    pub fn parse(text: &[u8]) -> Self {
        Mounts(text.split(|b| *b == b'\n').filter_map(parse_line).collect())
    }

    /// Every mount.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mount> {
        self.0.iter()
    }

    /// The mount that is visible at `mount_point`: the last one that was mounted there.
    pub fn at(&self, mount_point: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|m| m.mount_point == mount_point)
    }

    /// The mount with this id.
    pub fn by_id(&self, id: u64) -> Option<&Mount> {
        self.0.iter().find(|m| m.id == id)
    }

    /// The mounts that hide a mount, because they are mounted over it or over a directory in its
    /// path; the last one first.
    pub(super) fn covering<'a>(&'a self, mount: &'a Mount) -> impl Iterator<Item = &'a Mount> {
        let mut under = vec![mount.id];
        let mut here = mount;
        while let Some(parent) = self.by_id(here.parent).filter(|p| !under.contains(&p.id)) {
            under.push(parent.id);
            here = parent;
        }
        let leads_to = |m: &Mount| mount.mount_point.starts_with(&m.mount_point);
        self.0.iter().rev().filter(move |m| !under.contains(&m.id) && leads_to(m))
    }

    /// The mounts of a device's file system.
    pub fn of<'a>(&'a self, device: &'a BlockDevice) -> impl DoubleEndedIterator<Item = &'a Mount> {
        self.0.iter().filter(|m| m.is_of(device))
    }

    /// The mounts on `dir` and below it.
    pub fn under<'a>(&'a self, dir: &'a Path) -> impl DoubleEndedIterator<Item = &'a Mount> {
        self.0.iter().filter(move |m| m.mount_point.starts_with(dir))
    }
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|b| *b == b' ');
    let text = |word: &[u8]| String::from_utf8_lossy(&crate::octal::unescape(word)).into_owned();
    let path = |word: &[u8]| PathBuf::from(OsString::from_vec(crate::octal::unescape(word)));
    let mut id = || text(words.next()?).parse::<u64>().ok();
    let (id, parent) = (id()?, id()?);
    let number = text(words.next()?);
    let (major, minor) = number.split_once(':')?;
    let (root, mount_point, options) =
        (path(words.next()?), path(words.next()?), text(words.next()?));
    let mut words = words.skip_while(|word| *word != b"-").skip(1);
    Some(Mount {
        id,
        parent,
        number: DeviceNumber { major: major.parse().ok()?, minor: minor.parse().ok()? },
        root,
        mount_point,
        options,
        fs_type: text(words.next()?),
        source: path(words.next()?),
        super_options: words.next().map(text).unwrap_or_default(),
    })
}

/// A mount that is unmounted when dropped.
#[derive(Debug)]
pub struct Mounted {
    dir: PathBuf,
    /// Its id: by then something else may be mounted at the path.
    id: u64,
    armed: bool,
    warnings: Vec<String>,
}

impl Mounted {
    /// The mount on `dir` whose root directory is open.
    ///
    /// # Errors
    /// As statx(2).
    pub(super) fn of(dir: &Path, root: impl AsFd) -> Result<Self> {
        let id = mount_id(root).at("reading the mount id of", dir)?;
        Ok(Mounted { dir: dir.into(), id, armed: true, warnings: Vec::new() })
    }

    /// The same mount with these warnings.
    pub(super) fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// The directory it is mounted on.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Sentences about options of its fstab that it was mounted without.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Unmounts now, and waits until everything is on the device.
    ///
    /// # Errors
    /// As umount2(2), such as when the mount is still in use. The mount is then detached.
    pub fn unmount(self) -> Result<()> {
        retry_busy(BUSY_TIMEOUT, || unmount_exactly(&self.dir, self.id, UnmountFlags::empty()))
            .at("unmounting", &self.dir)?;
        self.into_persistent();
        Ok(())
    }

    /// Keeps the mount.
    pub fn into_persistent(mut self) -> PathBuf {
        self.armed = false;
        std::mem::take(&mut self.dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = unmount_exactly(&self.dir, self.id, UnmountFlags::DETACH)
        {
            log::warn!("unmounting {}: {error}", self.dir.display());
        }
    }
}

/// The id of the mount in which a directory is open.
pub(super) fn mount_id(directory: impl AsFd) -> rustix::io::Result<u64> {
    statx(directory, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).map(|seen| seen.stx_mnt_id)
}

/// Unmounts the mount with this id, which was made on `path`: there, or where it is now, if a
/// directory on the way to it was renamed. Something else that is mounted at the path stays.
fn unmount_exactly(path: &Path, id: u64, flags: UnmountFlags) -> rustix::io::Result<()> {
    if is_mount_at(path, id) {
        return unmount(path, flags | UnmountFlags::NOFOLLOW);
    }
    let table = Mounts::read(&Host::local()).map_err(|_| Errno::INVAL)?;
    match table.by_id(id).filter(|mount| is_mount_at(&mount.mount_point, id)) {
        Some(mount) => unmount(&mount.mount_point, flags | UnmountFlags::NOFOLLOW),
        None => Err(Errno::INVAL),
    }
}

/// Whether a path leads to the root of the mount with this id.
fn is_mount_at(path: &Path, id: u64) -> bool {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).and_then(mount_id) == Ok(id)
}

/// Unmounts everything on `dir` and below it, the last mount first.
///
/// # Errors
/// A mount is in use. Those before it stay unmounted.
pub fn unmount_all(host: &Host, dir: &Path) -> Result<()> {
    let table = Mounts::read(host)?;
    for mount in table.under(dir).rev() {
        let unmounted = retry_busy(SCAN_TIMEOUT, || {
            unmount_exactly(&mount.mount_point, mount.id, UnmountFlags::empty())
        });
        unmounted.map_err(|error| match error {
            rustix::io::Errno::BUSY => Error::Failed(format!(
                "{} is in use: end the programs that use it (`fuser -vm {0}` lists them), then run \
                the command again",
                mount.mount_point.display()
            )),
            error => Error::Io {
                doing: format!("unmounting {}", mount.mount_point.display()),
                source: error.into(),
            },
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
