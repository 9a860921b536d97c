//! Everything of an inode but its content: owner, mode, times, extended attributes (ACLs, capabilities and labels are
//! among them, raw), inode flags and project id. Order matters: chown(2) clears set-user-ID and capabilities, chmod(2)
//! changes an ACL's mask, and nothing can be changed once a file is immutable.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, IFlags, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use crate::sys;

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
/// `c`, `m`, `C`, `F`: they mean something only while the file or folder is empty.
pub const EARLY: u32 = 0x0000_0004 | 0x0000_0400 | 0x0080_0000 | CASEFOLD;
/// `F`, of folders.
const CASEFOLD: u32 = 0x4000_0000;
/// `P` among the FS_XFLAG_ flags: what is made below inherits the project.
const XFLAG_PROJINHERIT: u32 = 0x0000_0200;

/// An extended attribute: its name and value.
pub type Xattr = (CString, Vec<u8>);

/// What is carried over.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// As stat(2) gave it when the entry was first looked at.
    pub stat: Stat,
    /// All of them.
    pub xattrs: Vec<Xattr>,
    /// FS_IOC_GETFLAGS, without what nobody can set.
    pub flags: u32,
    /// Project id, and whether it is inherited.
    pub project: (u32, bool),
}

/// An entry: open, or a name in a folder.
#[derive(Clone, Copy, Debug)]
pub enum Place<'a> {
    /// A file or folder that is open.
    Open(&'a OwnedFd),
    /// Anything by its name; a symbolic link is the link itself.
    Named(&'a OwnedFd, &'a CStr),
}

impl Place<'_> {
    /// A path for the calls that take no descriptor: it leads through /proc, so no other name is looked up.
    fn path(&self, name: &CStr, folder: &OwnedFd) -> Vec<u8> {
        let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
        path.extend_from_slice(name.to_bytes());
        path
    }

    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Place::Open(fd) => rustix::fs::flistxattr(fd, buffer),
            Place::Named(folder, name) => rustix::fs::llistxattr(self.path(name, folder), buffer),
        }
    }

    fn get(&self, attribute: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Place::Open(fd) => rustix::fs::fgetxattr(fd, attribute, buffer),
            Place::Named(folder, name) => rustix::fs::lgetxattr(self.path(name, folder), attribute, buffer),
        }
    }

    fn set(&self, (attribute, value): &Xattr) -> Result<(), Errno> {
        let flags = XattrFlags::empty();
        match self {
            Place::Open(fd) => rustix::fs::fsetxattr(fd, attribute, value, flags),
            Place::Named(folder, name) => {
                rustix::fs::lsetxattr(self.path(name, folder), attribute, value, flags)
            }
        }
    }

    fn remove(&self, attribute: &CStr) -> Result<(), Errno> {
        match self {
            Place::Open(fd) => rustix::fs::fremovexattr(fd, attribute),
            Place::Named(folder, name) => rustix::fs::lremovexattr(self.path(name, folder), attribute),
        }
    }

    fn names(&self) -> Result<Vec<CString>, Errno> {
        let mut small = [0u8; 1024];
        let list = match grown(&mut small, |buffer| self.list(buffer)) {
            Ok(list) => list,
            // A file system without extended attributes has none.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Vec::new()),
            Err(why) => return Err(why),
        };
        Ok(list
            .split_inclusive(|b| *b == 0)
            .filter_map(|n| CString::from_vec_with_nul(n.to_vec()).ok())
            .collect())
    }
}

/// Calls with a larger buffer until what is asked for fits.
fn grown(
    first: &mut [u8],
    mut call: impl FnMut(&mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<u8>, Errno> {
    match call(first) {
        Ok(length) => return Ok(first[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(why) => return Err(why),
    }
    // XATTR_SIZE_MAX and XATTR_LIST_MAX are 64 KiB; some file systems hold more.
    let mut large = vec![0u8; 64 * 1024];
    loop {
        match call(&mut large) {
            Ok(length) => {
                large.truncate(length);
                return Ok(large);
            }
            Err(Errno::RANGE) if large.len() < 16 * 1024 * 1024 => large.resize(large.len() * 4, 0),
            Err(why) => return Err(why),
        }
    }
}

impl Attributes {
    /// Reads what `stat` does not say. Only files and folders that are open have flags.
    ///
    /// # Errors
    /// Errors of reading the inode.
    pub fn read(place: Place<'_>, stat: Stat) -> Result<Self, Errno> {
        let mut xattrs = Vec::new();
        for name in place.names()? {
            let mut small = [0u8; 256];
            match grown(&mut small, |buffer| place.get(&name, buffer)) {
                Ok(value) => xattrs.push((name, value)),
                Err(Errno::NODATA) => {}
                Err(why) => return Err(why),
            }
        }
        let (mut flags, mut project) = (0, (0, false));
        if let Place::Open(fd) = place {
            flags = rustix::fs::ioctl_getflags(fd).map_or(0, |f| f.bits()) & SETTABLE;
            if let Ok(attributes) = sys::file_attributes(fd) {
                project = (attributes.project, attributes.flags & XFLAG_PROJINHERIT != 0);
            }
        }
        Ok(Attributes { stat, xattrs, flags, project })
    }

    /// The kind of entry.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Flags that must be set while the new file or folder is empty.
    ///
    /// # Errors
    /// A sentence for the report.
    pub fn apply_early(&self, fd: &OwnedFd) -> Result<(), String> {
        if self.flags & EARLY == 0 { Ok(()) } else { set_flags(fd, self.flags & EARLY, EARLY) }
    }

    /// Makes the entry equal, but for flags that forbid further changes. What the file system cannot hold goes to
    /// `note`; `existed`: it may have attributes that the source has not.
    ///
    /// # Errors
    /// Errors of writing that are no property of this entry.
    pub fn apply(&self, place: Place<'_>, existed: bool, note: &mut dyn FnMut(String)) -> Result<(), Errno> {
        let (owner, group) = (Some(Uid::from_raw(self.stat.st_uid)), Some(Gid::from_raw(self.stat.st_gid)));
        let mode = Mode::from_raw_mode(self.stat.st_mode & 0o7777);
        let owned = match place {
            Place::Open(fd) => rustix::fs::fchown(fd, owner, group),
            Place::Named(folder, name) => {
                rustix::fs::chownat(folder, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        tolerate(owned, note, || format!("owner {}:{}", self.stat.st_uid, self.stat.st_gid))?;
        let permitted = match place {
            Place::Open(fd) => rustix::fs::fchmod(fd, mode),
            Place::Named(..) if self.kind() == FileType::Symlink => Ok(()),
            Place::Named(folder, name) => rustix::fs::chmodat(folder, name, mode, AtFlags::empty()),
        };
        tolerate(permitted, note, || format!("mode {:o}", mode.bits()))?;
        if existed {
            for name in place.names()? {
                if !self.xattrs.iter().any(|(kept, _)| *kept == name) {
                    // Some, like security.selinux, cannot be removed: then they stay.
                    let _ = place.remove(&name);
                }
            }
        }
        for xattr in &self.xattrs {
            let (name, value) = xattr;
            let what = || format!("extended attribute {} of {} bytes", name.to_string_lossy(), value.len());
            match place.set(xattr) {
                // ext4 says so when the inode's one block is full, not only the device.
                Err(Errno::NOSPC) if has_space(place) => note(format!("{}: no room in the inode", what())),
                other => tolerate(other, note, what)?,
            }
        }
        if let Place::Open(fd) = place {
            self.set_project(fd).unwrap_or_else(&mut *note);
        }
        self.set_times(place, note)
    }

    /// Flags other than [`EARLY`]; immutable and append-only among them, so this comes last.
    ///
    /// # Errors
    /// A sentence for the report.
    pub fn apply_late(&self, fd: &OwnedFd, existed: bool) -> Result<(), String> {
        if self.flags & !EARLY == 0 && !existed {
            Ok(())
        } else {
            set_flags(fd, self.flags & !EARLY, SETTABLE & !EARLY)
        }
    }

    fn set_project(&self, fd: &OwnedFd) -> Result<(), String> {
        let (id, inherited) = self.project;
        if id == 0 && !inherited {
            return Ok(());
        }
        let set = sys::file_attributes(fd).and_then(|mut attributes| {
            attributes.flags &= !XFLAG_PROJINHERIT;
            attributes.flags |= if inherited { XFLAG_PROJINHERIT } else { 0 };
            attributes.project = id;
            sys::set_file_attributes(fd, attributes)
        });
        set.map_err(|why| format!("project id {id} ({why})"))
    }

    fn set_times(&self, place: Place<'_>, note: &mut dyn FnMut(String)) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: time(self.stat.st_atime, self.stat.st_atime_nsec),
            last_modification: time(self.stat.st_mtime, self.stat.st_mtime_nsec),
        };
        let set = match place {
            Place::Open(fd) => rustix::fs::futimens(fd, &times),
            Place::Named(folder, name) => {
                rustix::fs::utimensat(folder, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        tolerate(set, note, || "times".to_owned())?;
        // The kernel clamps what the file system cannot hold, and says nothing.
        let usual = |seconds: i64| (0..=i64::from(i32::MAX)).contains(&seconds);
        if !usual(self.stat.st_atime) || !usual(self.stat.st_mtime) {
            let now = match place {
                Place::Open(fd) => rustix::fs::fstat(fd),
                Place::Named(folder, name) => rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW),
            }?;
            if (now.st_mtime, now.st_atime) != (self.stat.st_mtime, self.stat.st_atime) {
                note(format!(
                    "times of {} and {} seconds since 1970",
                    self.stat.st_mtime, self.stat.st_atime
                ));
            }
        }
        Ok(())
    }
}

#[allow(clippy::cast_possible_wrap, reason = "nanoseconds are below 10^9")]
fn time(seconds: i64, nanoseconds: u64) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 }
}

/// What a file system cannot hold is a line in the report; a full or broken device is an error.
fn tolerate(
    result: Result<(), Errno>,
    note: &mut dyn FnMut(String),
    what: impl FnOnce() -> String,
) -> Result<(), Errno> {
    match result {
        Err(Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::NODEV | Errno::NXIO) => result,
        Err(why) => {
            note(format!("{} ({why})", what()));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn has_space(place: Place<'_>) -> bool {
    let (Place::Open(fd) | Place::Named(fd, _)) = place;
    rustix::fs::fstatvfs(fd).is_ok_and(|space| space.f_bfree > 256)
}

/// Sets the flags of `mask` to `flags`; if not all can be, those that can.
fn set_flags(fd: &OwnedFd, flags: u32, mask: u32) -> Result<(), String> {
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
    let order = (0..32).map(|bit| 1u32 << bit).filter(|f| flags & f != 0 && f & (IMMUTABLE | APPEND) == 0);
    for flag in order.chain([flags & APPEND, flags & IMMUTABLE]).filter(|f| *f != 0) {
        match set(reached | flag) {
            Ok(()) => reached |= flag,
            Err(_) => failed |= flag,
        }
    }
    if failed == 0 { Ok(()) } else { Err(format!("inode flags {failed:#x} ({why})")) }
}

/// Lifts what keeps an existing file or folder from being changed.
pub fn unlock(fd: &OwnedFd) {
    if let Ok(flags) = rustix::fs::ioctl_getflags(fd)
        && flags.bits() & (IMMUTABLE | APPEND) != 0
    {
        // If it cannot be lifted, the change that needs it says so.
        let _ =
            rustix::fs::ioctl_setflags(fd, IFlags::from_bits_retain(flags.bits() & !(IMMUTABLE | APPEND)));
    }
}
