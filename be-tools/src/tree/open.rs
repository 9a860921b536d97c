//! Opens the directories where a walk starts.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode as Permissions, OFlags};
use rustix::io::Errno;

use crate::error::{Doing, Error, Result};

/// Opens the directory at which a file system is mounted.
///
/// # Errors
/// As open(2).
pub fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Permissions::empty()).at("opening", path)
}

/// What to do if a directory does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfMissing {
    /// Fail.
    Fail,
    /// Create it, with mode 0755.
    Create,
}

/// Opens the directory `below` in the file system mounted at `root`. A symlink in the path is an
/// error: it could lead anywhere, even into the running system.
pub fn open_below(root: &Path, below: &Path, missing: IfMissing) -> Result<OwnedFd> {
    let mut directory = open_root(root)?;
    let mut at = PathBuf::from("/");
    for name in below.components() {
        let Component::Normal(name) = name else {
            return Err(Error::Failed(format!(
                "{} is not a plain path below a file system: name it without '..'",
                below.display()
            )));
        };
        at.push(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&directory, name, flags, Permissions::empty());
        let opened = match open() {
            Err(Errno::NOENT) if missing == IfMissing::Create => {
                rustix::fs::mkdirat(&directory, name, Permissions::from_raw_mode(0o755))
                    .and_then(|()| open())
            }
            other => other,
        };
        directory = match opened {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Error::Failed(format!(
                    "{} is a symlink or a file in the boot environment, not a mount point: name \
                    the directory that it points to",
                    at.display()
                )));
            }
            other => other.at("opening", &root.join(below))?,
        };
    }
    Ok(directory)
}
