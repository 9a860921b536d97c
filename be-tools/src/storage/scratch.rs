//! A file system in memory, for what an operation needs until it ends.

use std::path::Path;

use rustix::mount::mount;

use super::mount_call::GUARDED;
use super::mount_place::MountPlace;
use super::mounts::Mounted;
use crate::error::{Doing, Result};

/// Mounts an empty file system in memory on a directory (tmpfs(5)), of at most half of the memory.
/// All may read what lies in it, if they may enter the directory.
///
/// # Errors
/// As mount(2).
pub(crate) fn mount_scratch(at: &Path) -> Result<Mounted> {
    mount("tmpfs", at, "tmpfs", GUARDED, c"mode=755,size=50%").at("mounting a tmpfs on", at)?;
    Mounted::of(at, MountPlace::open(at)?)
}
