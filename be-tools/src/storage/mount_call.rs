//! mount(2), for `storage` alone. From everywhere else the way to a mount is
//! [`FileSystem::show`](super::volume::FileSystem::show).

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, mount, mount_bind, mount_change,
    mount_remount, move_mount,
};

use super::mounts::Mounted;
use super::retry::{BUSY_TIMEOUT, retry};
use super::subvolume::Subvolume;
use super::usage;
use crate::error::{Doing, Error, Result};

/// What is mounted, and where.
#[derive(Clone, Copy, Debug)]
pub(super) struct MountCall<'a> {
    /// Device node.
    pub(super) device: &'a Path,
    /// File system type, as the probe found it.
    pub(super) fs_type: &'a str,
    /// On btrfs; the top level, whatever the default is, for `None`.
    pub(super) subvolume: Option<&'a Subvolume>,
    /// Where.
    pub(super) at: &'a Path,
}

/// How long a btrfs that nothing uses may still be refused because of a scan.
const SCAN_ENDED: Duration = Duration::from_secs(1);

/// Nothing of what is shown is written to, or believed to be a device or another's right.
pub(super) const READ_ONLY: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NOATIME)
    .union(MountFlags::NOSUID)
    .union(MountFlags::NODEV);

/// Shows an open directory, without what is mounted below it, at `target`, with these flags only:
/// what hidden files lie under mount points is seen, and nothing mounted later crosses over
/// (DESIGN.md, invariant 1).
///
/// # Errors
/// As mount(2).
pub(super) fn bind(source: impl AsFd, target: &Path, flags: MountFlags) -> Result<Mounted> {
    let source = PathBuf::from(format!("/proc/self/fd/{}", source.as_fd().as_raw_fd()));
    mount_bind(&source, target).at("binding a mount to", target)?;
    closed(target, flags)
}

/// As [`bind`], for a mount that is attached nowhere yet.
///
/// # Errors
/// As move_mount(2).
pub(super) fn attach(mount: impl AsFd, target: &Path, flags: MountFlags) -> Result<Mounted> {
    move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at("attaching a mount to", target)?;
    closed(target, flags)
}

fn closed(target: &Path, flags: MountFlags) -> Result<Mounted> {
    let mounted = Mounted::new(target);
    mount_change(target, MountPropagationFlags::PRIVATE).at("making private", target)?;
    mount_remount(target, MountFlags::BIND | flags, "").at("making read-only", target)?;
    Ok(mounted)
}

/// The kernel's driver and the options with which looking writes nothing (DESIGN.md, invariant 7;
/// BOOT.md, "Mounting a dirty file system").
fn unchanging_options(fs_type: &str) -> Option<(&'static str, &'static str)> {
    Some(match fs_type {
        // The ext4 driver takes all three, and only it knows noload.
        "ext2" | "ext3" | "ext4" => ("ext4", "noload,errors=continue"),
        "xfs" => ("xfs", "norecovery,nouuid"),
        "btrfs" => ("btrfs", "rescue=nologreplay"),
        "vfat" => ("vfat", ""),
        _ => return None,
    })
}

/// A broken file system is not written to any more. That this machine should panic then
/// (`errors=panic`) may be written in its super block, and is not for a disk to say.
fn on_errors(fs_type: &str) -> Option<&'static str> {
    matches!(fs_type, "ext2" | "ext3" | "ext4").then_some("errors=remount-ro")
}

impl MountCall<'_> {
    /// Mounts a file system to look at it, so that not one byte of the device changes.
    ///
    /// A device that is mounted for writing cannot be mounted read-only a second time (`EBUSY`).
    ///
    /// # Errors
    /// A type that is not looked into, and as mount(2).
    pub(super) fn unchanged(&self, flags: MountFlags, timeout: Duration) -> Result<Mounted> {
        let Some((driver, options)) = unchanging_options(self.fs_type) else {
            return Err(Error::Failed(format!(
                "{} holds {}, which is not looked into",
                self.device.display(),
                self.fs_type
            )));
        };
        let mut data = self.subvolume_option()?;
        data.extend((!options.is_empty()).then(|| options.to_owned()));
        self.mount(driver, flags, &data.join(","), timeout)
    }

    /// Mounts a file system that is Lifeboat's to write to, just made or a BE's own. Looking leaves
    /// no trace in access times, which are the source's.
    ///
    /// # Errors
    /// As mount(2).
    pub(super) fn for_writing(&self) -> Result<Mounted> {
        let mut data = self.subvolume_option()?;
        // A block copy has the UUID of its mounted source for a moment.
        data.extend((self.fs_type == "xfs").then(|| "nouuid".to_owned()));
        data.extend(on_errors(self.fs_type).map(str::to_owned));
        self.mount(self.fs_type, MountFlags::NOATIME, &data.join(","), BUSY_TIMEOUT)
    }

    /// Mounts with options as fstab(5) has them, those for user space and for errors left out.
    /// Which subvolume of a btrfs it is says the call, whatever the options say.
    ///
    /// # Errors
    /// As mount(2).
    pub(super) fn with_options(&self, options: &str) -> Result<Mounted> {
        let mut flags = MountFlags::empty();
        let is_btrfs = self.fs_type == "btrfs";
        let mut data = self.subvolume_option()?;
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
                "" | "rw" | "defaults" | "auto" | "noauto" | "user" | "nouser" | "users"
                | "owner" | "group" | "nofail" | "_netdev" | "suid" | "dev" | "exec" | "async"
                | "atime" | "diratime" | "loud" => {}
                // What errors lead to is decided here; `fatal_errors` is btrfs's word.
                other if other.starts_with("errors=") || other.starts_with("fatal_errors=") => {}
                other if is_btrfs && Subvolume::is_option(other) => {}
                other if ["x-", "X-", "comment="].iter().any(|word| other.starts_with(word)) => {}
                other => data.push(other.to_owned()),
            }
        }
        data.extend(on_errors(self.fs_type).map(str::to_owned));
        self.mount(self.fs_type, flags, &data.join(","), BUSY_TIMEOUT)
    }

    /// One for a btrfs, none for another.
    fn subvolume_option(&self) -> Result<Vec<String>> {
        if self.fs_type != "btrfs" {
            return Ok(Vec::new());
        }
        Ok(vec![Subvolume::option(self.subvolume)?])
    }

    fn mount(
        &self,
        driver: &str,
        flags: MountFlags,
        options: &str,
        timeout: Duration,
    ) -> Result<Mounted> {
        let MountCall { device, at, .. } = self;
        let data = std::ffi::CString::new(options)
            .map_err(|_| Error::Failed(format!("mount option {options:?} has a NUL")))?;
        log::debug!("mount -t {driver} -o {options} {} {}", device.display(), at.display());
        let start = Instant::now();
        let is_busy = |error: &Errno| match *error {
            Errno::BUSY => true,
            // A btrfs that a scan has mounted cannot be written to beside that: the kernel would
            // have the scan's `rescue=nologreplay` and `rw` together.
            Errno::INVAL if driver == "btrfs" && !flags.contains(MountFlags::RDONLY) => {
                start.elapsed() < SCAN_ENDED || usage::is_busy(device)
            }
            _ => false,
        };
        retry(timeout, is_busy, || mount(*device, *at, driver, flags, data.as_c_str()))
            .doing(|| format!("mounting {} ({driver}) on {}", device.display(), at.display()))?;
        Ok(Mounted::new(at))
    }
}

#[cfg(test)]
mod tests;
