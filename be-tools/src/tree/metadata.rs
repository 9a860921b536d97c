//! Everything of an inode but its content: owner, mode, times, extended attributes (ACLs,
//! capabilities and labels are among them, raw), inode flags and project id. Order matters:
//! chown(2) clears set-user-ID and capabilities, chmod(2) changes an ACL's mask, and nothing can be
//! changed once a file is immutable.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::inode_flags::{EARLY, SETTABLE, set_flags};
use crate::sys;
use crate::tree::xattr::{Place, Xattr};

/// `P` among the FS_XFLAG_ flags: what is made below inherits the project.
const XFLAG_PROJINHERIT: u32 = 0x0000_0200;

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

impl Attributes {
    /// Reads what `stat` does not say. Only files and directories that are open have flags.
    ///
    /// # Errors
    /// Errors of reading the inode.
    pub fn read(place: Place<'_>, stat: Stat) -> Result<Self, Errno> {
        let xattrs = place.xattrs()?;
        let (mut flags, mut project) = (0, (0, false));
        if let Place::Open(fd) = place {
            flags = rustix::fs::ioctl_getflags(fd).map_or(0, |f| f.bits()) & SETTABLE;
            if let Ok(attributes) = sys::file_attributes(fd) {
                project = (attributes.project, attributes.flags & XFLAG_PROJINHERIT != 0);
            }
        }
        Ok(Attributes { stat, xattrs, flags, project })
    }

    /// Nothing of it differs from what is in the target, as far as both file systems can hold it.
    /// Sizes and contents are no part of it.
    pub fn same_as(&self, there: &Attributes) -> bool {
        let kept = |a: &Attributes| {
            let s = &a.stat;
            let moments = (s.st_mtime, s.st_mtime_nsec, s.st_atime, s.st_atime_nsec);
            (s.st_mode, s.st_uid, s.st_gid, moments, a.flags, a.project)
        };
        kept(self) == kept(there) && self.xattrs == there.xattrs
    }

    /// The kind of entry.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Flags that must be set while the new file or directory is empty; on one that `existed`, as
    /// far as they still can.
    ///
    /// # Errors
    /// A sentence for the report.
    pub fn apply_early(&self, fd: &OwnedFd, existed: bool) -> Result<(), String> {
        if self.flags & EARLY == 0 && !existed {
            Ok(())
        } else {
            set_flags(fd, self.flags & EARLY, EARLY)
        }
    }

    /// Makes the entry equal, but for flags that forbid further changes. What the file system
    /// cannot hold goes to `note`; `existed`: it may have attributes that the source has not.
    ///
    /// # Errors
    /// Errors of writing that are no property of this entry.
    pub fn apply(
        &self,
        place: Place<'_>,
        existed: bool,
        note: &mut dyn FnMut(String),
    ) -> Result<(), Errno> {
        let (owner, group) =
            (Some(Uid::from_raw(self.stat.st_uid)), Some(Gid::from_raw(self.stat.st_gid)));
        let mode = Mode::from_raw_mode(self.stat.st_mode & 0o7777);
        let owned = match place {
            Place::Open(fd) => rustix::fs::fchown(fd, owner, group),
            Place::Named(directory, name) => {
                rustix::fs::chownat(directory, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        tolerate(owned, note, || format!("owner {}:{}", self.stat.st_uid, self.stat.st_gid))?;
        let permitted = match place {
            Place::Open(fd) => rustix::fs::fchmod(fd, mode),
            Place::Named(..) if self.kind() == FileType::Symlink => Ok(()),
            Place::Named(directory, name) => {
                rustix::fs::chmodat(directory, name, mode, AtFlags::empty())
            }
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
            let what = || {
                format!("extended attribute {} of {} bytes", name.to_string_lossy(), value.len())
            };
            match place.set(xattr) {
                // ext4 says so when the inode's one block is full, not only the device.
                Err(Errno::NOSPC) if has_space(place) => {
                    note(format!("{}: no room in the inode", what()))
                }
                other => tolerate(other, note, what)?,
            }
        }
        if let Place::Open(fd) = place {
            self.set_project(fd, existed).unwrap_or_else(&mut *note);
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

    fn set_project(&self, fd: &OwnedFd, existed: bool) -> Result<(), String> {
        let (id, inherited) = self.project;
        if id == 0 && !inherited && !existed {
            return Ok(());
        }
        let set = sys::file_attributes(fd).and_then(|mut attributes| {
            if (attributes.project, attributes.flags & XFLAG_PROJINHERIT != 0) == self.project {
                return Ok(());
            }
            attributes.flags &= !XFLAG_PROJINHERIT;
            attributes.flags |= if inherited { XFLAG_PROJINHERIT } else { 0 };
            attributes.project = id;
            sys::set_file_attributes(fd, attributes)
        });
        match set {
            // A file system without projects has none to clear.
            Err(_) if id == 0 && !inherited => Ok(()),
            other => other.map_err(|why| format!("project id {id} ({why})")),
        }
    }

    /// Of access and modification.
    pub fn times(&self) -> Timestamps {
        Timestamps {
            last_access: time(self.stat.st_atime, self.stat.st_atime_nsec),
            last_modification: time(self.stat.st_mtime, self.stat.st_mtime_nsec),
        }
    }

    fn set_times(&self, place: Place<'_>, note: &mut dyn FnMut(String)) -> Result<(), Errno> {
        let times = self.times();
        let set = match place {
            Place::Open(fd) => rustix::fs::futimens(fd, &times),
            Place::Named(directory, name) => {
                rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        tolerate(set, note, || "times".to_owned())?;
        // The kernel clamps what the file system cannot hold, and says nothing.
        let usual = |seconds: i64| (0..=i64::from(i32::MAX)).contains(&seconds);
        if !usual(self.stat.st_atime) || !usual(self.stat.st_mtime) {
            let now = match place {
                Place::Open(fd) => rustix::fs::fstat(fd),
                Place::Named(directory, name) => {
                    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
                }
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
        Err(Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS | Errno::NODEV | Errno::NXIO) => {
            result
        }
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
