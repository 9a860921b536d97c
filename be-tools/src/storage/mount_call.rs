//! mount(2), for `storage` alone. All other modules mount with
//! [`FileSystem::show`](super::volume::FileSystem::show).

use std::cell::Cell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, mount, move_mount, open_tree};

use super::mount_options::MountOptions;
use super::mount_place::MountPlace;
use super::mounts::Mounted;
use super::namespace::in_private_namespace;
use super::retry::{BUSY_TIMEOUT, retry};
use super::subvolume::Subvolume;
use super::usage;
use crate::error::{Doing, Error, Result};
use crate::sys;

/// A mount to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct MountCall<'a> {
    /// The device node.
    pub(super) device: &'a Path,
    /// The file system type that the probe found.
    pub(super) fs_type: &'a str,
    /// The subvolume of a btrfs; `None` is the top level.
    pub(super) subvolume: Option<&'a Subvolume>,
    /// The mount point.
    pub(super) at: &'a Path,
}

/// How long the kernel may still refuse a btrfs after it was last seen in use. A scan may also have
/// ended between the refusal and the look.
const SCAN_ENDED: Duration = Duration::from_secs(1);

/// Set-user-ID bits and device nodes have no effect: the flags of every mount that is not handed to
/// a command of its own system.
pub(super) const GUARDED: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);

/// The flags for reading a foreign file system: nothing is written.
pub(super) const READ_ONLY: MountFlags =
    MountFlags::RDONLY.union(MountFlags::NOATIME).union(GUARDED);

/// Binds an open directory to a place, with these flags. Mounts below the directory are not
/// included, so that files hidden under them are visible, and later mounts do not propagate
/// (docs/design.md, invariant 1).
///
/// # Errors
/// As open_tree(2) and move_mount(2).
pub(super) fn bind(source: impl AsFd, place: &MountPlace, flags: MountFlags) -> Result<Mounted> {
    let copy = copy_of(source).at("copying a mount for", place.path())?;
    attach(copy, place, flags)
}

/// As [`bind`], for a detached mount.
///
/// # Errors
/// As move_mount(2).
pub(super) fn attach(mount: OwnedFd, place: &MountPlace, flags: MountFlags) -> Result<Mounted> {
    sys::restrict_mount(&mount, flags).at("making read-only what is mounted on", place.path())?;
    let mounted = attach_as_it_is(&mount, place)?;
    // A mount in a directory whose mounts propagate propagates, too.
    sys::make_mount_private(&mount).at("making private", place.path())?;
    Ok(mounted)
}

/// Attaches a detached mount to an open directory, so that no path can lead it elsewhere.
///
/// # Errors
/// As move_mount(2).
pub(super) fn attach_as_it_is(mount: impl AsFd, place: &MountPlace) -> Result<Mounted> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), "", place, "", flags).at("attaching a mount to", place.path())?;
    Mounted::of(place.path(), mount)
}

/// A detached copy of the mount whose root directory is open.
///
/// # Errors
/// As open_tree(2).
pub(super) fn copy_of(root: impl AsFd) -> rustix::io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    open_tree(root, "", flags)
}

/// The kernel's driver, and the options with which a mount writes nothing (docs/design.md,
/// invariant 7, and "Mounting a dirty file system").
fn unchanging_options(fs_type: &str) -> Option<(&'static str, &'static str)> {
    Some(match fs_type {
        // The ext4 driver mounts all three, and only it has noload.
        "ext2" | "ext3" | "ext4" => ("ext4", "noload,errors=continue"),
        "xfs" => ("xfs", "norecovery,nouuid"),
        "btrfs" => ("btrfs", "rescue=nologreplay"),
        "vfat" => ("vfat", ""),
        _ => return None,
    })
}

/// The option that makes a damaged file system read-only. It overrides `errors=panic` in a super
/// block, since a disk must not be able to make this machine panic.
fn on_errors(fs_type: &str) -> Option<&'static str> {
    matches!(fs_type, "ext2" | "ext3" | "ext4").then_some("errors=remount-ro")
}

impl MountCall<'_> {
    /// Makes the mount with `call`, but attaches it nowhere: it is made in a mount namespace of its
    /// own, in which only this thread can be. The warnings are those of the mount.
    ///
    /// # Errors
    /// Those of `call`, and without root.
    pub(super) fn detached(
        &self,
        call: impl FnOnce(MountCall<'_>) -> Result<Mounted> + Send,
    ) -> Result<(OwnedFd, Vec<String>)> {
        in_private_namespace(|| {
            // Any directory will do. This one always exists.
            let scratch = Path::new("/proc");
            let mounted = call(MountCall { at: scratch, ..*self })?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let copy = open_tree(CWD, scratch, flags).doing(|| "copying a mount".into())?;
            Ok((copy, mounted.warnings().to_vec()))
        })
    }

    /// Mounts a file system for reading, without changing one byte of the device.
    ///
    /// A device that is mounted for writing cannot also be mounted read-only (`EBUSY`).
    ///
    /// # Errors
    /// The type cannot be mounted without changes, and as mount(2).
    pub(super) fn unchanged(&self, flags: MountFlags, timeout: Duration) -> Result<Mounted> {
        let Some((driver, options)) = unchanging_options(self.fs_type) else {
            return Err(Error::Failed(format!(
                "{} holds {}, which be does not mount",
                self.device.display(),
                self.fs_type
            )));
        };
        let mut data = self.subvolume_option()?;
        data.extend((!options.is_empty()).then(|| options.to_owned()));
        match self.mount(driver, flags, &data, timeout) {
            // A disk of the array is missing (btrfs(5), "degraded"). Reading needs only one copy.
            Err(error) if driver == "btrfs" && has_errno(&error, Errno::NOENT) => {
                data.push("degraded".into());
                self.mount(driver, flags, &data, timeout).map_err(|_| error)
            }
            done => done,
        }
    }

    /// Mounts a file system for writing, either a new one or one of a BE. Reading does not update
    /// its access times, which are those of the source.
    ///
    /// # Errors
    /// As mount(2).
    pub(super) fn for_writing(&self) -> Result<Mounted> {
        let data = self.own_options()?;
        self.mount(self.fs_type, MountFlags::NOATIME | GUARDED, &data, BUSY_TIMEOUT)
    }

    /// Mounts with options of fstab(5), as far as they are known and safe ([`MountOptions`]), and
    /// with `flags`. The kernel may refuse options that an older one had; then only those are used
    /// that every file system has. Both are warnings of the mount. The subvolume of a btrfs is that
    /// of this call, not that of the options.
    ///
    /// # Errors
    /// As mount(2).
    pub(super) fn with_options(&self, options: &str, flags: MountFlags) -> Result<Mounted> {
        let options = MountOptions::of_fstab(self.fs_type, options);
        let flags = options.flags | flags;
        let warning = |what: &str, options: &[String]| {
            format!("{}: {what} in its fstab: {}", self.device.display(), options.join(","))
        };
        let mut warnings = Vec::new();
        if !options.dropped.is_empty() {
            warnings.push(warning("be does not use these mount options", &options.dropped));
        }
        let own = self.own_options()?;
        let all = [own.as_slice(), options.data.as_slice()].concat();
        let mounted = match self.mount(self.fs_type, flags, &all, BUSY_TIMEOUT) {
            Err(error) if has_errno(&error, Errno::INVAL) && !options.data.is_empty() => {
                let mounted = self.mount(self.fs_type, flags, &own, BUSY_TIMEOUT)?;
                let what = "this kernel does not take these mount options";
                warnings.push(warning(what, &options.data));
                mounted
            }
            done => done?,
        };
        Ok(mounted.with_warnings(warnings))
    }

    /// The options of every mount for writing.
    fn own_options(&self) -> Result<Vec<String>> {
        let mut data = self.subvolume_option()?;
        // A block copy has the UUID of its mounted source for a moment, and those of others have it.
        data.extend((self.fs_type == "xfs").then(|| "nouuid".to_owned()));
        data.extend(on_errors(self.fs_type).map(str::to_owned));
        Ok(data)
    }

    /// The option that names the subvolume; none if it is not a btrfs.
    fn subvolume_option(&self) -> Result<Vec<String>> {
        if self.fs_type != "btrfs" {
            return Ok(Vec::new());
        }
        Ok(Subvolume::option(self.subvolume)?.into_iter().collect())
    }

    fn mount(
        &self,
        driver: &str,
        flags: MountFlags,
        options: &[String],
        timeout: Duration,
    ) -> Result<Mounted> {
        let MountCall { device, at, .. } = self;
        let options = options.join(",");
        let data = std::ffi::CString::new(options.as_str())
            .map_err(|_| Error::Failed(format!("mount option {options:?} has a NUL")))?;
        log::debug!("mount -t {driver} -o {options} {} {}", device.display(), at.display());
        let last_in_use = Cell::new(Instant::now());
        let is_busy = |error: &Errno| match *error {
            Errno::BUSY => true,
            // While a scan has mounted a btrfs, it cannot be mounted for writing, because the
            // kernel would combine `rw` with the scan's `rescue=nologreplay`.
            Errno::INVAL if driver == "btrfs" && !flags.contains(MountFlags::RDONLY) => {
                if usage::is_busy(device) {
                    last_in_use.set(Instant::now());
                }
                last_in_use.get().elapsed() < SCAN_ENDED
            }
            _ => false,
        };
        retry(timeout, is_busy, || mount(*device, *at, driver, flags, data.as_c_str()))
            .doing(|| format!("mounting {} ({driver})", device.display()))?;
        let root = MountPlace::open(at)?;
        Mounted::of(at, root)
    }
}

fn has_errno(error: &Error, errno: Errno) -> bool {
    matches!(error, Error::Io { source, .. } if Errno::from_io_error(source) == Some(errno))
}

#[cfg(test)]
mod tests;
