//! A directory to mount on.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::error::{Doing, Result};

/// A directory to mount on. It is held open, and mounts are attached to the open directory: a user
/// who may rename a directory on the way to it could otherwise redirect the mount.
#[derive(Debug)]
pub struct MountPlace {
    directory: OwnedFd,
    path: PathBuf,
}

impl MountPlace {
    /// The directory at `path`.
    ///
    /// # Errors
    /// As open(2).
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = openat(CWD, path, flags, Mode::empty()).at("opening", path)?;
        Ok(MountPlace { directory, path: path.to_owned() })
    }

    /// An open directory.
    ///
    /// # Errors
    /// `/proc` is not mounted.
    pub fn of(directory: OwnedFd) -> Result<Self> {
        let link = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        let path = std::fs::read_link(&link).at("finding the path of", &link)?;
        Ok(MountPlace { directory, path })
    }

    /// Its path, as it was when this was made.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for MountPlace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}
