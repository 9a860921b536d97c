//! The mount table (`/proc/thread-self/mountinfo`, proc(5)) and mounts that go away with their
//! handle.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change,
    mount_remount, unmount,
};

use super::device::BlockDevice;
use super::number::device_number;
use super::patience::{LOOKING, WORKING, retry_busy};
use crate::error::{Doing, Error, Result};
use crate::host::Host;

/// One line of mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Device number; on btrfs an anonymous one (major 0).
    pub number: (u32, u32),
    /// The path in the file system that is mounted; `/` unless it is a bind mount or a subvolume.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Options of this mount.
    pub options: String,
    /// File system type.
    pub fs_type: String,
    /// Device node, or whatever the type puts there.
    pub source: PathBuf,
    /// Options of the file system.
    pub super_options: String,
}

impl Mount {
    /// Nothing can be written through this mount.
    pub fn is_read_only(&self) -> bool {
        has_option(&self.options, "ro") || has_option(&self.super_options, "ro")
    }

    /// Nothing can be written to the file system, through no mount of it.
    pub fn is_file_system_read_only(&self) -> bool {
        has_option(&self.super_options, "ro")
    }

    /// It shows a file system that lies on this device.
    pub fn is_of(&self, device: &BlockDevice) -> bool {
        self.number == device.number
            // btrfs: only the source names the device.
            || (self.number.0 == 0
                && (self.source == device.node || device_number(&self.source) == Some(device.number)))
    }
}

fn has_option(options: &str, name: &str) -> bool {
    options.split(',').any(|option| option == name)
}

/// The mount table, in the order of mounting.
#[derive(Clone, Debug, Default)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads the table of the calling thread's namespace.
    ///
    /// # Errors
    /// When `/proc` is not mounted.
    pub fn read(host: &Host) -> Result<Self> {
        let path = host.proc.join("thread-self/mountinfo");
        std::fs::read(&path).at("reading", &path).map(|text| Self::parse(&text))
    }

    /// Parses the text of mountinfo; lines it does not understand are left out.
    pub fn parse(text: &[u8]) -> Self {
        Mounts(text.split(|b| *b == b'\n').filter_map(parse_line).collect())
    }

    /// Every mount.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Mount> {
        self.0.iter()
    }

    /// What is seen at `mount_point`: the last one mounted there.
    pub fn at(&self, mount_point: &Path) -> Option<&Mount> {
        self.0.iter().rev().find(|m| m.mount_point == mount_point)
    }

    /// The mounts of a device's file system.
    pub fn of<'a>(&'a self, device: &'a BlockDevice) -> impl DoubleEndedIterator<Item = &'a Mount> {
        self.0.iter().filter(|m| m.is_of(device))
    }

    /// The mounts at `dir` and below.
    pub fn under<'a>(&'a self, dir: &'a Path) -> impl DoubleEndedIterator<Item = &'a Mount> {
        self.0.iter().filter(move |m| m.mount_point.starts_with(dir))
    }
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut words = line.split(|b| *b == b' ');
    let text = |word: &[u8]| String::from_utf8_lossy(&super::unescape(word)).into_owned();
    let path = |word: &[u8]| PathBuf::from(OsString::from_vec(super::unescape(word)));
    let number = text(words.nth(2)?);
    let (major, minor) = number.split_once(':')?;
    let (root, mount_point, options) =
        (path(words.next()?), path(words.next()?), text(words.next()?));
    let mut words = words.skip_while(|word| *word != b"-").skip(1);
    Some(Mount {
        number: (major.parse().ok()?, minor.parse().ok()?),
        root,
        mount_point,
        options,
        fs_type: text(words.next()?),
        source: path(words.next()?),
        super_options: words.next().map(text).unwrap_or_default(),
    })
}

/// A mount that is taken away when dropped.
#[derive(Debug)]
pub struct Mounted {
    dir: PathBuf,
    armed: bool,
}

impl Mounted {
    fn new(dir: &Path) -> Self {
        Mounted { dir: dir.into(), armed: true }
    }

    /// Where it is mounted.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Unmounts now and waits until everything is on the device; what still uses it is an error.
    ///
    /// # Errors
    /// As umount2(2); the mount is then detached.
    pub fn unmount(self) -> Result<()> {
        retry_busy(WORKING, || unmount(&self.dir, UnmountFlags::NOFOLLOW))
            .at("unmounting", &self.dir)?;
        self.into_persistent();
        Ok(())
    }

    /// Leaves it mounted.
    pub fn into_persistent(mut self) -> PathBuf {
        self.armed = false;
        std::mem::take(&mut self.dir)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = unmount(&self.dir, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)
        {
            log::warn!("unmounting {}: {error}", self.dir.display());
        }
    }
}

/// Shows `source`, without what is mounted below it, read-only at `target`: what hidden files lie
/// under mount points is seen, and the kernel refuses every write (DESIGN.md, invariant 1).
///
/// # Errors
/// As mount(2).
pub fn bind_read_only(source: &Path, target: &Path) -> Result<Mounted> {
    let mounted = bind(source, target)?;
    let flags = MountFlags::BIND
        | MountFlags::RDONLY
        | MountFlags::NOATIME
        | MountFlags::NOSUID
        | MountFlags::NODEV;
    mount_remount(target, flags, "").at("making read-only", target)?;
    Ok(mounted)
}

/// Shows `source`, without what is mounted below it, at `target`; nothing mounted later crosses
/// over.
///
/// # Errors
/// As mount(2).
pub fn bind(source: &Path, target: &Path) -> Result<Mounted> {
    mount_bind(source, target)
        .doing(|| format!("binding {} to {}", source.display(), target.display()))?;
    let mounted = Mounted::new(target);
    mount_change(target, MountPropagationFlags::PRIVATE).at("making private", target)?;
    Ok(mounted)
}

/// The kernel's driver and the options with which looking writes nothing (DESIGN.md, invariant 7;
/// BOOT.md, "Mounting a dirty file system").
fn scan_options(fs_type: &str) -> Option<(&'static str, &'static str)> {
    Some(match fs_type {
        // The ext4 driver takes all three, and only it knows noload.
        "ext2" | "ext3" | "ext4" => ("ext4", "noload,errors=continue"),
        "xfs" => ("xfs", "norecovery,nouuid"),
        "btrfs" => ("btrfs", "rescue=nologreplay"),
        "vfat" => ("vfat", ""),
        _ => return None,
    })
}

/// Mounts a foreign file system to look at it, so that not one byte of the device changes.
///
/// A device that is mounted for writing cannot be mounted read-only a second time (`EBUSY`): bind
/// its mount instead. On btrfs, no subvolume means the top level, whatever the default is.
///
/// # Errors
/// A type that no scan mounts, and as mount(2).
pub fn mount_for_scan(
    device: &Path,
    fs_type: &str,
    subvolume: Option<&str>,
    dir: &Path,
) -> Result<Mounted> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_unchanged(device, fs_type, subvolume, dir, flags)
}

/// As [`mount_for_scan`], for a BE that the command names: its programs can be run.
///
/// # Errors
/// As [`mount_for_scan`].
pub fn mount_read_only(
    device: &Path,
    fs_type: &str,
    subvolume: Option<&str>,
    dir: &Path,
) -> Result<Mounted> {
    mount_unchanged(device, fs_type, subvolume, dir, MountFlags::empty())
}

fn mount_unchanged(
    device: &Path,
    fs_type: &str,
    subvolume: Option<&str>,
    dir: &Path,
    flags: MountFlags,
) -> Result<Mounted> {
    let Some((driver, options)) = scan_options(fs_type) else {
        return Err(Error::Failed(format!(
            "{} holds {fs_type}, which is not looked into",
            device.display()
        )));
    };
    let mut options = options.to_owned();
    if fs_type == "btrfs" {
        options.push(',');
        options.push_str(&subvolume_option(subvolume)?);
    }
    call_mount(
        device,
        dir,
        driver,
        flags | MountFlags::RDONLY | MountFlags::NOATIME,
        &options,
        LOOKING,
    )
}

/// Mounts a file system that is ours to write to, just made or a BE's own. Looking leaves no trace
/// in access times, which are the source's.
///
/// # Errors
/// As mount(2).
pub fn mount_target(device: &Path, fs_type: &str, dir: &Path) -> Result<Mounted> {
    // A block copy has the UUID of its mounted source for a moment.
    let options = if fs_type == "xfs" { "nouuid" } else { on_errors(fs_type).unwrap_or_default() };
    call_mount(device, dir, fs_type, MountFlags::NOATIME, options, WORKING)
}

/// A broken file system is not written to any more. That this machine should panic then
/// (`errors=panic`) may be written in its super block, and is not for a disk to say.
fn on_errors(fs_type: &str) -> Option<&'static str> {
    matches!(fs_type, "ext2" | "ext3" | "ext4").then_some("errors=remount-ro")
}

/// Mounts with options as fstab(5) has them, those for user space and for errors left out. Which
/// subvolume of a btrfs it is says `subvolume`, whatever the options say; `None` is its top.
///
/// # Errors
/// As mount(2).
pub fn mount_with(
    device: &Path,
    fs_type: &str,
    subvolume: Option<&str>,
    options: &str,
    dir: &Path,
) -> Result<Mounted> {
    let mut flags = MountFlags::empty();
    let is_btrfs = fs_type == "btrfs";
    // A name with a comma is refused, so that it names no options.
    let subvolume = if is_btrfs { Some(subvolume_option(subvolume)?) } else { None };
    let mut data: Vec<&str> = subvolume.as_deref().into_iter().collect();
    for option in options.split(',') {
        match option {
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "" | "rw" | "defaults" | "auto" | "noauto" | "user" | "nouser" | "users" | "owner"
            | "group" | "nofail" | "_netdev" | "suid" | "dev" | "exec" | "async" | "atime"
            | "diratime" | "loud" => {}
            // What errors lead to is decided here; `fatal_errors` is btrfs's word.
            other if other.starts_with("errors=") || other.starts_with("fatal_errors=") => {}
            other
                if is_btrfs && (other.starts_with("subvol=") || other.starts_with("subvolid=")) => {
            }
            other if ["x-", "X-", "comment="].iter().any(|prefix| other.starts_with(prefix)) => {}
            other => data.push(other),
        }
    }
    data.extend(on_errors(fs_type));
    call_mount(device, dir, fs_type, flags, &data.join(","), WORKING)
}

fn subvolume_option(subvolume: Option<&str>) -> Result<String> {
    match subvolume {
        None => Ok("subvolid=5".into()),
        Some(path) if path.contains(',') => Err(Error::Failed(format!(
            "subvolume '{path}' has a comma in its path, which mount(2) cannot take"
        ))),
        Some(path) => Ok(format!("subvol={path}")),
    }
}

fn call_mount(
    device: &Path,
    dir: &Path,
    fs_type: &str,
    flags: MountFlags,
    options: &str,
    patience: Duration,
) -> Result<Mounted> {
    let data = std::ffi::CString::new(options)
        .map_err(|_| Error::Failed(format!("mount option {options:?} has a NUL")))?;
    log::debug!("mount -t {fs_type} -o {options} {} {}", device.display(), dir.display());
    retry_busy(patience, || mount(device, dir, fs_type, flags, data.as_c_str()))
        .doing(|| format!("mounting {} ({fs_type}) on {}", device.display(), dir.display()))?;
    Ok(Mounted::new(dir))
}

/// Unmounts whatever is mounted on `dir` and below, the last mount first.
///
/// # Errors
/// When something is in use; what was unmounted until then stays so.
pub fn unmount_all(host: &Host, dir: &Path) -> Result<()> {
    let table = Mounts::read(host)?;
    for mount in table.under(dir).rev() {
        unmount(&mount.mount_point, UnmountFlags::NOFOLLOW).map_err(|error| match error {
            rustix::io::Errno::BUSY => Error::Failed(format!(
                "{} is in use: end what uses it (`fuser -vm {0}` names it), then run the command \
                again",
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
