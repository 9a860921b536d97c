//! What a command sees as `/`, `/proc`, `/sys`, `/run`, `/tmp` and `/dev`.

use std::ffi::CString;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};

use super::arguments::{Arguments, WORK};
use super::devices::Devices;
use super::policy;
use crate::error::{Doing, Result};
use crate::storage::scratch::part_of_memory;
use crate::sys::{self, MountOption};

/// What is read-only below /proc and /sys: what changes the machine, its buses and interrupts, or
/// another file system. The same as in container runtimes (opencontainers/runtime-spec,
/// `readonlyPaths`), and /proc/mtrr.
const READ_ONLY: [&str; 6] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/mtrr", "/proc/sys", "/proc/sysrq-trigger"];

/// What is hidden: the kernel's memory, keys and addresses, and what commands hardware
/// (`maskedPaths`). Of /sys/firmware only the tables, because grub-mkconfig looks there for UEFI.
const HIDDEN: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware/acpi",
    "/sys/firmware/dmi",
];

/// Where the ESP may be mounted, the usual mount point first.
const ESP_MOUNT_POINTS: [&str; 2] = ["/boot/efi", "/efi"];

/// Makes the root of the boot environment that of this process, with file systems of its own for
/// what is not on a disk.
///
/// # Errors
/// A mount failed.
pub(super) fn enter(arguments: &Arguments, devices: &Devices) -> Result<()> {
    let resolver = fs::read("/etc/resolv.conf").ok();
    let work = arguments.work.as_deref().map(detached).transpose()?;
    change_root(&arguments.root)?;
    if !arguments.privileged {
        sys::set_mount_option(Path::new("/"), MountOption::NoDevices)
            .doing(|| "disabling device nodes of the boot environment".into())?;
    }
    api_file_systems()?;
    restrict()?;
    policy::cover()?;
    if let Some(text) = resolver {
        write_resolver_file(&text)?;
    }
    hide_esp()?;
    if let Some(work) = work {
        attach(work, Path::new(WORK))?;
    }
    arguments.shared.iter().try_for_each(|shared| read_only(shared))?;
    // No node can be made after this.
    devices.make()
}

/// Clones a mount, without attaching the clone anywhere yet.
fn detached(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags).at("opening", path)
}

fn change_root(root: &Path) -> Result<()> {
    use rustix::mount::{mount_bind_recursive, mount_change, unmount};
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "making mounts private".into())?;
    mount_bind_recursive(root, root).at("binding", root)?;
    rustix::process::chdir(root).at("entering", root)?;
    match rustix::process::pivot_root(".", ".") {
        // See "pivot_root(".", ".")" in pivot_root(2): the old root ends up mounted on top of the
        // new one, and is unmounted.
        Ok(()) => unmount(".", UnmountFlags::DETACH).doing(|| "leaving the old root".into())?,
        // The root of the rescue image is the kernel's rootfs, for which pivot_root(2) fails. The
        // new root is mounted over it.
        Err(rustix::io::Errno::INVAL) => {
            rustix::mount::mount_move(".", "/").at("changing the root to", root)?;
            rustix::process::chroot(".").at("changing the root to", root)?;
        }
        Err(why) => return Err(why).at("changing the root to", root),
    }
    rustix::process::chdir("/").at("entering", root)
}

fn mount(kind: &str, mountpoint: &str, flags: MountFlags, data: &std::ffi::CStr) -> Result<()> {
    let path = Path::new(mountpoint);
    if !path.is_dir() {
        fs::create_dir(path).at("making", path)?;
    }
    rustix::mount::mount(kind, path, kind, flags, data)
        .doing(|| format!("mounting {kind} on {mountpoint} inside"))
}

/// A file system in memory that a command may fill. What it leaves there stays until it ends.
fn scratch(mountpoint: &str, mode: &str, percent: u64) -> Result<()> {
    const MOST: u64 = 4 << 30;
    let size = part_of_memory(percent, MOST);
    let options = CString::new(format!("mode={mode},size={size}")).unwrap_or_default();
    mount("tmpfs", mountpoint, MountFlags::NOSUID | MountFlags::NODEV, &options)
}

fn api_file_systems() -> Result<()> {
    let closed = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "/proc", closed, c"")?;
    mount("sysfs", "/sys", closed | MountFlags::RDONLY, c"")?;
    scratch("/run", "755", 10)?;
    scratch("/tmp", "1777", 25)?;
    mount("tmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=755,size=4m")?;
    fs::create_dir("/dev/pts").doing(|| "making /dev/pts inside".into())?;
    mount(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    fs::create_dir("/dev/shm").doing(|| "making /dev/shm inside".into())?;
    scratch("/dev/shm", "1777", 10)?;
    fs::create_dir_all("/run/lock").doing(|| "making /run/lock inside".into())
}

/// Makes [`READ_ONLY`] read-only and hides [`HIDDEN`]. A command cannot undo it: it may not mount
/// or unmount anything.
fn restrict() -> Result<()> {
    for path in READ_ONLY.map(Path::new).into_iter().filter(|path| path.exists()) {
        read_only(path)?;
    }
    let nothing = Path::new("/run/lifeboat-nothing");
    fs::write(nothing, "").at("making", nothing)?;
    for path in HIDDEN.map(Path::new) {
        let hidden = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
                rustix::mount::mount("tmpfs", path, "tmpfs", flags, c"mode=555,size=4k")
            }
            Ok(_) => rustix::mount::mount_bind(nothing, path),
            Err(_) => continue,
        };
        hidden.at("hiding", path)?;
    }
    fs::remove_file(nothing).at("removing", nothing)
}

/// Makes a path read-only, and everything mounted below it. Other mount options are kept.
fn read_only(path: &Path) -> Result<()> {
    let refused = || format!("making {} read-only inside", path.display());
    rustix::mount::mount_bind_recursive(path, path).doing(refused)?;
    sys::set_mount_option(path, MountOption::ReadOnly).doing(refused)
}

/// Hides the ESP even if the BE has it mounted, so that a package that installs a loader has nothing
/// to write to.
fn hide_esp() -> Result<()> {
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    for mountpoint in ESP_MOUNT_POINTS.iter().map(Path::new).filter(|path| path.is_dir()) {
        rustix::mount::mount("tmpfs", mountpoint, "tmpfs", flags, c"mode=700,size=4k")
            .at("hiding", mountpoint)?;
    }
    Ok(())
}

/// Attaches a detached mount to a directory, which is made if it does not exist.
fn attach(mount: OwnedFd, place: &Path) -> Result<()> {
    fs::create_dir_all(place).at("making", place)?;
    rustix::mount::move_mount(mount, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at("mounting", place)
}

/// Writes the file that a dangling symlink at /etc/resolv.conf points to. systemd-resolved and
/// resolvconf keep that file in /run, which is empty inside.
fn write_resolver_file(text: &[u8]) -> Result<()> {
    let file = Path::new("/etc/resolv.conf");
    let mut target = match fs::read_link(file) {
        Ok(target) if !file.exists() => Path::new("/etc").join(target),
        _ => return Ok(()),
    };
    // Only the usual forms are handled: ../run/x and /run/x.
    if let Ok(below) = target.strip_prefix("/etc/..") {
        target = Path::new("/").join(below);
    }
    if !target.starts_with("/run") || target.components().any(|part| part.as_os_str() == "..") {
        return Ok(());
    }
    if let Some(directory) = target.parent() {
        fs::create_dir_all(directory).at("making", directory)?;
    }
    fs::write(&target, text).at("writing", &target)
}
