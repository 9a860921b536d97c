//! The control group of a command (cgroups(7), version 2), and the program in it that decides which
//! devices may be opened (the kernel's admin-guide/cgroup-v2, "Device controller"). Root may open
//! any node whatever its mode, so only the kernel can make a node read-only.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};

use super::device_rules::{self, Rule};
use crate::error::{Doing, Result};
use crate::sys;

/// What the names of these groups begin with.
const PREFIX: &str = "lifeboat-";

/// A control group, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct ControlGroup {
    parent: OwnedFd,
    directory: OwnedFd,
    name: String,
}

impl ControlGroup {
    /// Makes a group below that of this process, so that the limits of that one hold for it too.
    ///
    /// # Errors
    /// The kernel has no control groups of version 2.
    pub(super) fn new() -> Result<Self> {
        let making = || "making a control group for a command".to_owned();
        let parent = own_group().doing(making)?;
        remove_left_over(&parent);
        let name = format!("{PREFIX}{}", std::process::id());
        rustix::fs::mkdirat(&parent, &name, Mode::from_raw_mode(0o755)).doing(making)?;
        let directory = rustix::fs::openat(&parent, &name, DIRECTORY, Mode::empty());
        match directory {
            Ok(directory) => Ok(ControlGroup { parent, directory, name }),
            Err(why) => {
                // The error that is reported is the first one.
                let _ = rustix::fs::unlinkat(&parent, &name, AtFlags::REMOVEDIR);
                Err(why).doing(making)
            }
        }
    }

    /// Allows only these devices to the processes of the group.
    ///
    /// # Errors
    /// The kernel does not run such programs (CONFIG_CGROUP_BPF).
    pub(super) fn allow_only(&self, rules: &[Rule]) -> Result<()> {
        let program = sys::load_device_program(&device_rules::program(rules))
            .doing(|| "loading the rules for the devices of a command".into())?;
        sys::attach_device_program(&self.directory, &program)
            .doing(|| "setting the rules for the devices of a command".into())
    }

    /// Moves this process into the group.
    ///
    /// # Errors
    /// As write(2).
    pub(super) fn join(&self) -> Result<()> {
        let joining = || format!("joining the control group {}", self.name);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&self.directory, "cgroup.procs", flags, Mode::empty());
        rustix::io::write(&file.doing(joining)?, b"0").doing(joining).map(drop)
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        if let Err(why) = rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR) {
            log::warn!("removing the control group {}: {why}; it is empty", self.name);
        }
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// The directory of this process's group, in a mount of the hierarchy that no path leads to: in the
/// rescue image it is mounted nowhere.
fn own_group() -> Result<OwnedFd, Errno> {
    let hierarchy = rustix::mount::fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_create(&hierarchy)?;
    let top = rustix::mount::fsmount(
        &hierarchy,
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
    )?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // The path of a group outside of this control group namespace begins with "..".
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.filter(|path| !path.is_empty() && !path.split('/').any(|part| part == ".."));
    rustix::fs::openat(&top, own.unwrap_or("."), DIRECTORY, Mode::empty())
}

/// Removes the groups of commands whose `be` was killed. The kernel keeps those that are in use.
fn remove_left_over(parent: &OwnedFd) {
    let Ok(entries) = rustix::fs::Dir::read_from(parent) else { return };
    for entry in entries.flatten() {
        let maker = entry.file_name().to_str().ok().and_then(|name| name.strip_prefix(PREFIX));
        // Another `be` may have made its group just now.
        if maker.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            let _ = rustix::fs::unlinkat(parent, entry.file_name(), AtFlags::REMOVEDIR);
        }
    }
}
