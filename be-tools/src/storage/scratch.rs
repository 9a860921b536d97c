//! A file system in memory, for what an operation needs until it ends.

use std::ffi::CString;
use std::path::Path;

use rustix::mount::mount;

use super::mount_call::GUARDED;
use super::mount_place::MountPlace;
use super::mounts::Mounted;
use crate::error::{Doing, Result};

/// The most bytes of one: package lists take some hundred MiB, package files as much again.
const MOST: u64 = 2 << 30;

/// Mounts an empty file system in memory on a directory (tmpfs(5)), of at most half of the memory or
/// 2 GiB: a foreign program may fill it, and then it stays until the operation ends. All may read what lies in it, if they may enter the directory.
///
/// # Errors
/// As mount(2).
pub(crate) fn mount_scratch(at: &Path) -> Result<Mounted> {
    let options = CString::new(format!("mode=755,size={}", part_of_memory(50, MOST)));
    let options = options.unwrap_or_default();
    mount("tmpfs", at, "tmpfs", GUARDED, &*options).at("mounting a tmpfs on", at)?;
    Mounted::of(at, MountPlace::open(at)?)
}

/// This part of the memory, in percent, or `most` if that is less. In bytes.
pub(crate) fn part_of_memory(percent: u64, most: u64) -> u64 {
    let memory = rustix::system::sysinfo();
    let total = memory.totalram.saturating_mul(u64::from(memory.mem_unit.max(1)));
    (total / 100 * percent).min(most)
}
