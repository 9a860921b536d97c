//! Inode flags (ioctl_iflags(2)). An immutable file cannot be changed, and some flags can be set
//! only while a file is empty.

use std::os::fd::OwnedFd;

use rustix::fs::IFlags;
use rustix::io::Errno;

/// The flags that can be set.
pub const SETTABLE: u32 = IMMUTABLE
    | APPEND
    | 0x0000_0001
    | 0x0000_0002
    | 0x0000_0008
    | 0x0000_0040
    | 0x0000_0080
    | EARLY
    | 0x0000_4000
    | 0x0000_8000
    | 0x0001_0000
    | 0x0002_0000;
/// FS_IMMUTABLE_FL, `i` in lsattr(1).
pub const IMMUTABLE: u32 = 0x0000_0010;
/// FS_APPEND_FL, `a` in lsattr(1).
pub const APPEND: u32 = 0x0000_0020;
/// The flags `c`, `m`, `C` and `F` of lsattr(1), which must be set while the file or directory is
/// empty.
pub const EARLY: u32 = 0x0000_0004 | 0x0000_0400 | 0x0080_0000 | CASEFOLD;
/// FS_CASEFOLD_FL, `F` in lsattr(1), of directories.
const CASEFOLD: u32 = 0x4000_0000;

/// FS_ENCRYPT_FL, `E` in lsattr(1). It cannot be set, and says that fscrypt encrypts the inode.
pub const ENCRYPTED: u32 = 0x0000_0800;

/// Sets the flags in `mask` to `flags`. If some of them cannot be set, sets the others.
///
/// # Errors
/// Which flags could not be set, for the report.
pub fn set_flags(fd: &OwnedFd, flags: u32, mask: u32) -> Result<(), String> {
    let refused = |why: Errno| format!("inode flags {flags:#x} ({why})");
    let now = match rustix::fs::ioctl_getflags(fd) {
        Ok(now) => now.bits(),
        Err(_) if flags == 0 => return Ok(()),
        Err(why) => return Err(refused(why)),
    };
    let kept = now & !mask;
    if kept | flags == now {
        return Ok(());
    }
    let set = |flags| rustix::fs::ioctl_setflags(fd, IFlags::from_bits_retain(flags));
    let Err(why) = set(kept | flags) else { return Ok(()) };
    let mut reached = kept;
    let mut failed = 0;
    // Immutable and append-only come last, because they forbid further changes.
    let order =
        (0..32).map(|bit| 1u32 << bit).filter(|f| flags & f != 0 && f & (IMMUTABLE | APPEND) == 0);
    for flag in order.chain([flags & APPEND, flags & IMMUTABLE]).filter(|f| *f != 0) {
        match set(reached | flag) {
            Ok(()) => reached |= flag,
            Err(_) => failed |= flag,
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("inode flags {failed:#x} ({why})")) }
}

/// Clears the immutable and append-only flags of a file or directory. Returns whether one of them
/// was set.
pub fn unlock(fd: &OwnedFd) -> bool {
    lift(fd).is_some()
}

/// As [`unlock`], but returns the flags that were set, for [`put_back`].
pub fn lift(fd: &OwnedFd) -> Option<IFlags> {
    let flags = rustix::fs::ioctl_getflags(fd).ok()?;
    let lifted = flags & (IFlags::IMMUTABLE | IFlags::APPEND);
    if lifted.is_empty() {
        return None;
    }
    // If this fails, the change that needs it fails too, and reports the error.
    let _ = rustix::fs::ioctl_setflags(fd, flags - lifted);
    Some(lifted)
}

/// Sets the flags that [`lift`] cleared.
pub fn put_back(fd: &OwnedFd, lifted: IFlags) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(fd)
        && let Err(why) = rustix::fs::ioctl_setflags(fd, flags | lifted)
    {
        log::warn!("inode flags {:#x} could not be set again: {why}", lifted.bits());
    }
}
