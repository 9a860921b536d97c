//! The namespaces of a command. The process that is PID 1 in them sets them up.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sched::CloneFlags;
use nix::sys::signal::Signal as NixSignal;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::fs::{CWD, FileType, Mode};
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use rustix::process::Signal;
use rustix::thread::CapabilitySet;

use super::arguments::{Arguments, NOT_PREPARED};
use super::{policy, seccomp};
use crate::error::{Doing, Error, Result};
use crate::escape::complain;
use crate::sys::{self, MountOption};

/// Character devices that every program may expect, with their major and minor numbers.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Symlinks in /dev.
const SYMLINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Capabilities that the command does not get, because they affect the machine itself or give
/// access to other disks.
const WITHHELD: [CapabilitySet; 5] = [
    CapabilitySet::MKNOD,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYS_TIME,
];

/// Environment variables of the caller that are passed to the command.
const PASSED_VARIABLES: [&str; 10] = [
    "TERM",
    "DEBIAN_FRONTEND",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SOURCE_DATE_EPOCH",
];

/// Signals that are passed on to the command. The terminal sends the first one itself.
const SIGNALS: [i32; 3] =
    [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// Where the ESP may be mounted, the usual mount point first.
const ESP_MOUNT_POINTS: [&str; 2] = ["/boot/efi", "/efi"];

/// Creates the namespaces, runs the command in them and returns its exit status.
///
/// # Errors
/// When they cannot be created or set up.
pub(super) fn enter(arguments: &Arguments) -> Result<u8> {
    die_with_parent()?;
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(arguments.parent) {
        return Err(Error::Interrupted);
    }
    for signal in SIGNALS {
        // The handler only keeps the signal from ending this process, which passes it on. Unlike
        // SIG_IGN, a handler is not inherited through exec.
        signal_hook::flag::register(signal, std::sync::Arc::default())
            .doing(|| "watching signals".into())?;
    }
    if !arguments.interactive {
        nix::unistd::setsid().doing(|| "leaving the terminal".into())?;
    }
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    nix::sched::unshare(flags).doing(|| "making namespaces (this needs root)".into())?;
    match sys::fork_single_threaded().doing(|| "starting PID 1 of the namespaces".into())? {
        Some(first) => Ok(pass_signals_until_end(first, first, arguments.interactive)),
        None => {
            let status =
                die_with_parent().and_then(|()| prepare(arguments)).and_then(|()| run(arguments));
            // The kernel kills all other processes of the namespace when PID 1 exits.
            std::process::exit(match status {
                Ok(status) => i32::from(status),
                Err(error) => {
                    complain(&error.to_string());
                    i32::from(NOT_PREPARED)
                }
            })
        }
    }
}

fn die_with_parent() -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .doing(|| "asking to be killed with the caller".into())
}

/// Waits for a child, and passes signals that arrive meanwhile to `receiver`. With a terminal,
/// SIGINT is not passed on, because the terminal sends it to all processes.
fn pass_signals_until_end(
    child: nix::unistd::Pid,
    receiver: nix::unistd::Pid,
    terminal: bool,
) -> u8 {
    let passed = &SIGNALS[usize::from(terminal)..];
    let flag = |signal: &i32| {
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        // This cannot fail: the same signal was registered before.
        let _ = signal_hook::flag::register(*signal, std::sync::Arc::clone(&flag));
        (*signal, flag)
    };
    let flags: Vec<_> = passed.iter().map(flag).collect();
    loop {
        // WNOHANG, because a signal that arrives just before a blocking wait would be noticed only
        // at its end.
        match waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => {
                return u8::try_from(status).unwrap_or(u8::MAX);
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return u8::try_from(128 + signal as i32).unwrap_or(u8::MAX);
            }
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR) => {
                for (signal, flag) in &flags {
                    if flag.swap(false, std::sync::atomic::Ordering::Relaxed)
                        && let Ok(signal) = NixSignal::try_from(*signal)
                    {
                        // This fails only if the receiver has just ended.
                        let _ = nix::sys::signal::kill(receiver, signal);
                    }
                }

                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            // An orphan, which PID 1 has to reap.
            Ok(_) => {}
            Err(_) => return NOT_PREPARED,
        }
    }
}

fn prepare(arguments: &Arguments) -> Result<()> {
    // The whole disk also holds other BEs. It is visible only to privileged commands, and to those
    // of Lifeboat: GRUB's tools read the partition table.
    let with_disk = arguments.privileged || !arguments.interactive;
    let devices = arguments
        .block_devices
        .iter()
        .map(|(node, uuid)| BlockDevice::read(node, uuid.as_deref(), with_disk));
    let devices: Vec<BlockDevice> =
        devices.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let resolver = fs::read("/etc/resolv.conf").ok();
    let esp = arguments.esp.as_deref().map(detached).transpose()?;

    change_root(&arguments.root)?;
    if !arguments.privileged {
        sys::set_mount_option(Path::new("/"), MountOption::NoDevices)
            .doing(|| "disabling device nodes of the boot environment".into())?;
    }
    api_file_systems(&devices)?;
    policy::cover()?;
    if let Some(text) = resolver {
        write_resolver_file(&text)?;
    }
    mount_esp(esp)?;
    for shared in &arguments.shared {
        read_only(shared)?;
    }
    if !arguments.privileged {
        for capability in WITHHELD {
            rustix::thread::remove_capability_from_bounding_set(capability)
                .doing(|| "giving up capabilities".into())?;
        }
        let mut sets =
            rustix::thread::capabilities(None).doing(|| "reading capabilities".into())?;
        for capability in WITHHELD {
            sets.inheritable.remove(capability);
        }
        rustix::thread::set_capabilities(None, sets).doing(|| "giving up capabilities".into())?;
        sys::set_filter(&mut seccomp::no_mounting()).doing(|| "giving up mount(2)".into())?;
    }
    Ok(())
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

fn api_file_systems(devices: &[BlockDevice]) -> Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NODEV;
    let closed = quiet | MountFlags::NOEXEC;
    mount("proc", "/proc", closed, c"")?;
    mount("sysfs", "/sys", closed | MountFlags::RDONLY, c"")?;
    mount("tmpfs", "/run", quiet, c"mode=755")?;
    mount("tmpfs", "/tmp", quiet, c"mode=1777")?;
    mount("tmpfs", "/dev", MountFlags::NOSUID | MountFlags::NOEXEC, c"mode=755,size=4m")?;
    fs::create_dir("/dev/pts").doing(|| "making /dev/pts inside".into())?;
    mount(
        "devpts",
        "/dev/pts",
        MountFlags::NOSUID | MountFlags::NOEXEC,
        c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    fs::create_dir("/dev/shm").doing(|| "making /dev/shm inside".into())?;
    mount("tmpfs", "/dev/shm", quiet, c"mode=1777")?;
    fs::create_dir_all("/run/lock").doing(|| "making /run/lock inside".into())?;
    for (name, major, minor) in DEVICES {
        node(
            &Path::new("/dev").join(name),
            FileType::CharacterDevice,
            0o666,
            rustix::fs::makedev(major, minor),
        )?;
    }
    for (name, to) in SYMLINKS {
        symlink(to, Path::new("/dev").join(name)).doing(|| format!("making /dev/{name} inside"))?;
    }
    devices.iter().try_for_each(BlockDevice::create)?;
    read_only(Path::new("/proc/sys"))?;
    // Writing to this file can restart the machine, even without capabilities.
    if Path::new("/proc/sysrq-trigger").exists() {
        read_only(Path::new("/proc/sysrq-trigger"))?;
    }
    Ok(())
}

fn node(path: &Path, kind: FileType, mode: u32, device: u64) -> Result<()> {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device).at("making", path)?;
    // The umask may have cleared bits.
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).at("making", path)
}

/// Makes a path read-only, and everything mounted below it. Other mount options are kept.
fn read_only(path: &Path) -> Result<()> {
    let refused = || format!("making {} read-only inside", path.display());
    rustix::mount::mount_bind_recursive(path, path).doing(refused)?;
    sys::set_mount_option(path, MountOption::ReadOnly).doing(refused)
}

fn mount_esp(esp: Option<OwnedFd>) -> Result<()> {
    let mount_points =
        || ESP_MOUNT_POINTS.iter().map(Path::new).filter(|mountpoint| mountpoint.is_dir());
    // Hides the ESP even if the BE has it mounted, so that a package that installs a loader has
    // nothing to write to.
    for mountpoint in mount_points() {
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("tmpfs", mountpoint, "tmpfs", flags, c"mode=700,size=4k")
            .at("hiding", mountpoint)?;
    }
    let Some(esp) = esp else { return Ok(()) };
    let Some(mountpoint) = mount_points().next() else {
        return Err(Error::Failed(
            "the boot environment has neither /boot/efi nor /efi to mount its ESP on: make one of \
            them"
                .into(),
        ));
    };
    rustix::mount::move_mount(esp, "", CWD, mountpoint, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at("mounting", mountpoint)
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

fn run(arguments: &Arguments) -> Result<u8> {
    let Some((program, words)) = arguments.command.split_first() else {
        return Err(Error::Usage("no command to run".into()));
    };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .envs(PASSED_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("USER", "root")
        .env("LOGNAME", "root")
        .env("SHELL", "/bin/sh")
        .env("LANG", "C.UTF-8")
        .current_dir("/");
    if !arguments.interactive && std::env::var_os("DEBIAN_FRONTEND").is_none() {
        command.env("DEBIAN_FRONTEND", "noninteractive");
    }
    if !arguments.interactive {
        // A process group of its own, to which signals are passed on without PID 1.
        command.process_group(0);
    }
    match command.spawn() {
        Ok(child) => {
            let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
            let group = if arguments.interactive { pid } else { -pid };
            let [pid, group] = [pid, group].map(nix::unistd::Pid::from_raw);
            Ok(pass_signals_until_end(pid, group, arguments.interactive))
        }
        Err(why) => {
            complain(&format!("{}: {why}", OsStr::new(program).display()));
            Ok(if why.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
        }
    }
}

/// A block device that will be visible inside.
#[derive(Debug)]
struct BlockDevice {
    node: PathBuf,
    uuid: Option<String>,
    device: u64,
}

impl BlockDevice {
    /// Reads the device number of a node. Also returns the device under the kernel's own name, and
    /// if `with_disk`, the disk of a partition.
    fn read(node: &Path, uuid: Option<&str>, with_disk: bool) -> Result<Vec<BlockDevice>> {
        let metadata = fs::metadata(node).at("reading the metadata of", node)?;
        let device = metadata.rdev();
        if !std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type())
            || !node.starts_with("/dev")
        {
            return Err(Error::Failed(format!(
                "{} is not a block device: name one under /dev",
                node.display()
            )));
        }
        let mut found =
            vec![BlockDevice { node: node.to_owned(), uuid: uuid.map(str::to_owned), device }];
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let sys = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
        // The given name may be a symlink, or a name that the device mapper made.
        if let Some(name) = sys.file_name() {
            let kernel = Path::new("/dev").join(name);
            if kernel != node {
                found.push(BlockDevice { node: kernel, uuid: None, device });
            }
        }
        if with_disk
            && sys.join("partition").exists()
            && let Some(disk) = sys.parent()
            && let Some(name) = disk.file_name()
            && let Ok(numbers) = fs::read_to_string(disk.join("dev"))
            && let Some((major, minor)) = numbers.trim().split_once(':')
            && let (Ok(major), Ok(minor)) = (major.parse(), minor.parse())
        {
            let node = Path::new("/dev").join(name);
            found.push(BlockDevice { node, uuid: None, device: rustix::fs::makedev(major, minor) });
        }
        Ok(found)
    }

    fn create(&self) -> Result<()> {
        if let Some(directory) = self.node.parent() {
            fs::create_dir_all(directory).at("making", directory)?;
        }
        if !self.node.exists() {
            node(&self.node, FileType::BlockDevice, 0o660, self.device)?;
        }
        let Some(uuid) = &self.uuid else { return Ok(()) };
        let directory = Path::new("/dev/disk/by-uuid");
        fs::create_dir_all(directory).at("making", directory)?;
        let link = directory.join(uuid);
        if fs::symlink_metadata(&link).is_ok() {
            Ok(())
        } else {
            symlink(&self.node, &link).at("making", &link)
        }
    }
}
