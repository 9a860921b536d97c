//! Everything an inode has besides its content: owner, mode, times, extended attributes (which
//! include ACLs, capabilities and security labels), inode flags and project id. The order in which
//! they are set matters: chown(2) clears set-user-ID and capabilities, chmod(2) changes the mask of
//! an ACL, and nothing can be changed once a file is immutable.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::inode_flags::{EARLY, ENCRYPTED, SETTABLE, set_flags};
use crate::sys;
use crate::tree::xattr::{InodeRef, Xattr};

/// FS_XFLAG_PROJINHERIT, which lsattr(1) shows as `P`: new entries of the directory inherit its
/// project.
const XFLAG_PROJINHERIT: u32 = 0x0000_0200;

/// The attributes of an inode that are copied.
#[derive(Clone, Debug)]
pub struct Attributes {
    /// The result of stat(2) when the entry was first looked at.
    pub stat: Stat,
    /// All extended attributes.
    pub xattrs: Vec<Xattr>,
    /// The flags of FS_IOC_GETFLAGS that can be set.
    pub flags: u32,
    /// Whether fscrypt encrypts the inode. That is not copied.
    pub is_encrypted: bool,
    /// The project.
    pub project: Project,
}

/// The project of an inode, for quotas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Project {
    /// Its id, or 0 for none.
    pub id: u32,
    /// Whether new entries of the directory inherit it.
    pub inherited: bool,
}

impl Attributes {
    /// Reads the attributes that `stat` does not have. Only an open file or directory has flags and
    /// a project.
    ///
    /// # Errors
    /// When the inode cannot be read.
    pub fn read(inode: InodeRef<'_>, stat: Stat) -> Result<Self, Errno> {
        let xattrs = inode.xattrs()?;
        let (mut all_flags, mut project) = (0, Project::default());
        if let InodeRef::Open(fd) = inode {
            all_flags = rustix::fs::ioctl_getflags(fd).map_or(0, |f| f.bits());
            if let Ok(attributes) = sys::file_attributes(fd) {
                project = project_of(&attributes);
            }
        }
        let (flags, is_encrypted) = (all_flags & SETTABLE, all_flags & ENCRYPTED != 0);
        Ok(Attributes { stat, xattrs, flags, is_encrypted, project })
    }

    /// Whether the target's inode has the same attributes. Size and content are not compared.
    pub fn same_as(&self, there: &Attributes) -> bool {
        let kept = |a: &Attributes| {
            let s = &a.stat;
            let moments = (s.st_mtime, s.st_mtime_nsec, s.st_atime, s.st_atime_nsec);
            (s.st_mode, s.st_uid, s.st_gid, moments, a.flags, a.project)
        };
        kept(self) == kept(there) && self.xattrs == there.xattrs
    }

    /// The type of the inode.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Sets the flags that must be set while a new file or directory is empty. On an inode that
    /// `existed`, only some of them can still be changed.
    ///
    /// # Errors
    /// What could not be set, for the report.
    pub fn apply_early(&self, fd: &OwnedFd, existed: bool) -> Result<(), String> {
        if self.flags & EARLY == 0 && !existed {
            Ok(())
        } else {
            set_flags(fd, self.flags & EARLY, EARLY)
        }
    }

    /// Sets everything except flags. What the file system cannot hold is passed to `note`. An inode
    /// that `existed` may have extended attributes that the source does not have; they are removed.
    ///
    /// # Errors
    /// When writing fails for a reason that does not concern this entry alone, such as a full or
    /// broken device.
    pub fn apply(
        &self,
        inode: InodeRef<'_>,
        existed: bool,
        note: &mut dyn FnMut(String),
    ) -> Result<(), Errno> {
        let (owner, group) =
            (Some(Uid::from_raw(self.stat.st_uid)), Some(Gid::from_raw(self.stat.st_gid)));
        let mode = Mode::from_raw_mode(self.stat.st_mode & 0o7777);
        let owned = match inode {
            InodeRef::Open(fd) => rustix::fs::fchown(fd, owner, group),
            InodeRef::Named(directory, name) => {
                rustix::fs::chownat(directory, name, owner, group, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        tolerate(owned, note, || format!("owner {}:{}", self.stat.st_uid, self.stat.st_gid))?;
        let permitted = match inode {
            InodeRef::Open(fd) => rustix::fs::fchmod(fd, mode),
            InodeRef::Named(..) if self.kind() == FileType::Symlink => Ok(()),
            InodeRef::Named(directory, name) => {
                rustix::fs::chmodat(directory, name, mode, AtFlags::empty())
            }
        };
        tolerate(permitted, note, || format!("mode {:o}", mode.bits()))?;
        if existed {
            for name in inode.names()? {
                if !self.xattrs.iter().any(|(kept, _)| *kept == name)
                    && let Err(why) = inode.remove(&name)
                    && !may_stay(&name, why)
                {
                    let what = || format!("the lack of {}", name.to_string_lossy());
                    tolerate(Err(why), note, what)?;
                }
            }
        }
        for xattr in &self.xattrs {
            let (name, value) = xattr;
            let what = || {
                format!("extended attribute {} of {} bytes", name.to_string_lossy(), value.len())
            };
            match inode.set(xattr) {
                // ext4 also returns ENOSPC when the inode's only block for attributes is full.
                Err(Errno::NOSPC) if has_space(inode) => {
                    note(format!("{}: no room in the inode", what()))
                }
                other => tolerate(other, note, what)?,
            }
        }
        if let InodeRef::Open(fd) = inode {
            self.set_project(fd, existed).unwrap_or_else(&mut *note);
        }
        self.set_times(inode, note)
    }

    /// Sets the flags other than [`EARLY`]. Immutable and append-only are among them, so this is
    /// the last step.
    ///
    /// # Errors
    /// What could not be set, for the report.
    pub fn apply_late(&self, fd: &OwnedFd, existed: bool) -> Result<(), String> {
        if self.flags & !EARLY == 0 && !existed {
            Ok(())
        } else {
            set_flags(fd, self.flags & !EARLY, SETTABLE & !EARLY)
        }
    }

    fn set_project(&self, fd: &OwnedFd, existed: bool) -> Result<(), String> {
        let Project { id, inherited } = self.project;
        if id == 0 && !inherited && !existed {
            return Ok(());
        }
        let set = sys::file_attributes(fd).and_then(|mut attributes| {
            if project_of(&attributes) == self.project {
                return Ok(());
            }
            attributes.flags &= !XFLAG_PROJINHERIT;
            attributes.flags |= if inherited { XFLAG_PROJINHERIT } else { 0 };
            attributes.project = id;
            sys::set_file_attributes(fd, attributes)
        });
        match set {
            // A file system without project ids has none to clear.
            Err(_) if id == 0 && !inherited => Ok(()),
            other => other.map_err(|why| format!("project id {id} ({why})")),
        }
    }

    /// The times of last access and last modification.
    pub fn times(&self) -> Timestamps {
        Timestamps {
            last_access: time(self.stat.st_atime, self.stat.st_atime_nsec),
            last_modification: time(self.stat.st_mtime, self.stat.st_mtime_nsec),
        }
    }

    fn set_times(&self, inode: InodeRef<'_>, note: &mut dyn FnMut(String)) -> Result<(), Errno> {
        let times = self.times();
        let set = match inode {
            InodeRef::Open(fd) => rustix::fs::futimens(fd, &times),
            InodeRef::Named(directory, name) => {
                rustix::fs::utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
            }
        };
        tolerate(set, note, || "times".to_owned())?;
        // The kernel silently clamps times that the file system cannot hold.
        let usual = |seconds: i64| (0..=i64::from(i32::MAX)).contains(&seconds);
        if !usual(self.stat.st_atime) || !usual(self.stat.st_mtime) {
            let now = match inode {
                InodeRef::Open(fd) => rustix::fs::fstat(fd),
                InodeRef::Named(directory, name) => {
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

fn project_of(attributes: &sys::FileAttributes) -> Project {
    Project { id: attributes.project, inherited: attributes.flags & XFLAG_PROJINHERIT != 0 }
}

#[allow(clippy::cast_possible_wrap, reason = "nanoseconds are below 10^9")]
fn time(seconds: i64, nanoseconds: u64) -> Timespec {
    Timespec { tv_sec: seconds, tv_nsec: nanoseconds as i64 }
}

/// Passes what the file system cannot hold to `note`. Only a full or broken device is an error.
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

/// Whether an extended attribute that could not be removed is no difference to report. With SELinux
/// every inode has a label; it can be changed, and not removed.
fn may_stay(name: &CStr, why: Errno) -> bool {
    why == Errno::NODATA
        || (name == c"security.selinux" && matches!(why, Errno::PERM | Errno::ACCESS))
}

fn has_space(inode: InodeRef<'_>) -> bool {
    let (InodeRef::Open(fd) | InodeRef::Named(fd, _)) = inode;
    rustix::fs::fstatvfs(fd).is_ok_and(|space| space.f_bfree > 256)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_that_cannot_be_removed_is_silent_only_for_selinux() {
        for (name, why, silent) in [
            (c"security.selinux", Errno::PERM, true),
            (c"security.selinux", Errno::ACCESS, true),
            (c"security.selinux", Errno::IO, false),
            (c"security.capability", Errno::PERM, false),
            (c"security.ima", Errno::PERM, false),
            (c"user.comment", Errno::IO, false),
            // It is gone already.
            (c"user.comment", Errno::NODATA, true),
        ] {
            assert_eq!(may_stay(name, why), silent, "{name:?} {why}");
        }
        let mut notes = Vec::new();
        let broken = tolerate(Err(Errno::IO), &mut |note| notes.push(note), String::new);
        assert_eq!(broken, Err(Errno::IO));
        tolerate(Err(Errno::PERM), &mut |note| notes.push(note), || "x".into()).unwrap();
        assert_eq!(notes.len(), 1);
    }
}
