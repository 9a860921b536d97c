//! Inode flags (ioctl_iflags(2)): nothing can be changed once a file is immutable, and some mean
//! something only while a file is empty.

use std::os::fd::OwnedFd;

use rustix::fs::IFlags;
use rustix::io::Errno;

/// Inode flags that a user may set (ioctl_iflags(2)), as the kernel's numbers.
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
/// `i`
pub const IMMUTABLE: u32 = 0x0000_0010;
/// `a`
pub const APPEND: u32 = 0x0000_0020;
/// `c`, `m`, `C`, `F`: they mean something only while the file or directory is empty.
pub const EARLY: u32 = 0x0000_0004 | 0x0000_0400 | 0x0080_0000 | CASEFOLD;
/// `F`, of directories.
const CASEFOLD: u32 = 0x4000_0000;

/// Sets the flags of `mask` to `flags`; if not all can be, those that can.
///
/// # Errors
/// A sentence for the report.
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
    // Immutable and append-only last.
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

/// Lifts what keeps an existing file or directory from being changed: true, if there was something
/// to lift.
pub fn unlock(fd: &OwnedFd) -> bool {
    lift(fd).is_some()
}

/// The same, and what was lifted, for [`put_back`].
pub fn lift(fd: &OwnedFd) -> Option<IFlags> {
    let flags = rustix::fs::ioctl_getflags(fd).ok()?;
    let lifted = flags & (IFlags::IMMUTABLE | IFlags::APPEND);
    if lifted.is_empty() {
        return None;
    }
    // If it cannot be lifted, the change that needs it says so.
    let _ = rustix::fs::ioctl_setflags(fd, flags - lifted);
    Some(lifted)
}

/// Sets once more what was lifted.
pub fn put_back(fd: &OwnedFd, lifted: IFlags) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(fd)
        && let Err(why) = rustix::fs::ioctl_setflags(fd, flags | lifted)
    {
        log::warn!("inode flags {:#x} could not be set again: {why}", lifted.bits());
    }
}
