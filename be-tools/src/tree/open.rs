//! The directories at which a walk begins.

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

/// What becomes of a directory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is an error.
    Fails,
    /// It is made, with mode 0755.
    IsMade,
}

/// Opens a directory below a mounted file system. A link on the way could lead anywhere, into the
/// running system too.
pub fn open_below(root: &Path, below: &Path, missing: Missing) -> Result<OwnedFd> {
    let mut directory = open_root(root)?;
    let mut at = PathBuf::from("/");
    for name in below.components() {
        let Component::Normal(name) = name else {
            return Err(Error::Failed(format!("{} is no place below another", below.display())));
        };
        at.push(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&directory, name, flags, Permissions::empty());
        let opened = match open() {
            Err(Errno::NOENT) if missing == Missing::IsMade => {
                rustix::fs::mkdirat(&directory, name, Permissions::from_raw_mode(0o755))
                    .and_then(|()| open())
            }
            other => other,
        };
        directory = match opened {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Error::Failed(format!(
                    "{} is a link or a file in the boot environment, so no file system has its \
                    place there: name the \
                     directory that it leads to",
                    at.display()
                )));
            }
            other => other.at("opening", &root.join(below))?,
        };
    }
    Ok(directory)
}
