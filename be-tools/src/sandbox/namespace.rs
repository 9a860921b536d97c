//! The namespaces of a command, prepared from within by the process that is their PID 1.

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

use super::order::{NOT_PREPARED, Order};
use super::{policy, seccomp};
use crate::error::{Doing, Error, Result};
use crate::escape::complain;
use crate::sys::{self, MountOption};

/// Character devices every program may expect: name, major, minor.
const DEVICES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

/// Links of /dev.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// What would reach the machine itself, or other disks.
const WITHHELD: [CapabilitySet; 5] = [
    CapabilitySet::MKNOD,
    CapabilitySet::SYS_BOOT,
    CapabilitySet::SYS_MODULE,
    CapabilitySet::SYS_RAWIO,
    CapabilitySet::SYS_TIME,
];

/// Variables of the caller that reach the command.
const PASSED: [&str; 10] = [
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

/// Passed on to the command; the first one the terminal sends itself.
const SIGNALS: [i32; 3] =
    [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];

/// Where the ESP is mounted, the usual place first.
const ESP: [&str; 2] = ["/boot/efi", "/efi"];

/// Makes the namespaces, runs the command in them and returns its exit status.
///
/// # Errors
/// When they cannot be made.
pub(super) fn enter(order: &Order) -> Result<u8> {
    die_with_parent()?;
    if rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get()) != Some(order.parent) {
        return Err(Error::Interrupted);
    }
    for signal in SIGNALS {
        // Only to live through it: PID 1 passes it on. A handler, unlike "ignore", does not outlive
        // exec.
        signal_hook::flag::register(signal, std::sync::Arc::default())
            .doing(|| "watching signals".into())?;
    }
    if !order.interactive {
        nix::unistd::setsid().doing(|| "leaving the terminal".into())?;
    }
    let flags = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    nix::sched::unshare(flags).doing(|| "making namespaces (this needs root)".into())?;
    match sys::fork_single_threaded().doing(|| "starting PID 1 of the namespaces".into())? {
        Some(first) => Ok(pass_signals_until_end(first, first, order.interactive)),
        None => {
            let status = die_with_parent().and_then(|()| prepare(order)).and_then(|()| run(order));
            // PID 1 ends here, and with it all others.
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
        .doing(|| "binding to the caller's life".into())
}

/// Waits for a child; signals that arrive meanwhile go to `whom`. The terminal's own go to
/// everybody by themselves.
fn pass_signals_until_end(child: nix::unistd::Pid, whom: nix::unistd::Pid, terminal: bool) -> u8 {
    let passed = &SIGNALS[usize::from(terminal)..];
    let flag = |signal: &i32| {
        let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        // It was registered once already, so it can be.
        let _ = signal_hook::flag::register(*signal, std::sync::Arc::clone(&flag));
        (*signal, flag)
    };
    let flags: Vec<_> = passed.iter().map(flag).collect();
    loop {
        // Without WNOHANG a signal between looking and waiting would be seen only at the end.
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
                        // It has just ended: the next look says so.
                        let _ = nix::sys::signal::kill(whom, signal);
                    }
                }
                // A signal, SIGCHLD excepted, ends the sleep.
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            // An orphan that PID 1 had to reap.
            Ok(_) => {}
            Err(_) => return NOT_PREPARED,
        }
    }
}

fn prepare(order: &Order) -> Result<()> {
    // On the disk lie other BEs. GRUB's tools, which Lifeboat runs, look for the partition table
    // there.
    let with_disk = order.privileged || !order.interactive;
    let devices = order
        .block_devices
        .iter()
        .map(|(node, uuid)| Block::look(node, uuid.as_deref(), with_disk));
    let devices: Vec<Block> = devices.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let resolver = fs::read("/etc/resolv.conf").ok();
    let esp = order.esp.as_deref().map(detached).transpose()?;

    change_root(&order.root)?;
    if !order.privileged {
        sys::set_mount_option(Path::new("/"), MountOption::NoDevices)
            .doing(|| "closing device nodes of the boot environment".into())?;
    }
    api_file_systems(&devices)?;
    policy::cover()?;
    if let Some(text) = resolver {
        resolver_behind_a_link(&text)?;
    }
    place_esp(esp)?;
    for shared in &order.shared {
        read_only(shared)?;
    }
    if !order.privileged {
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

/// A copy of a mount, attached nowhere yet.
fn detached(path: &Path) -> Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    rustix::mount::open_tree(CWD, path, flags).at("opening", path)
}

fn change_root(root: &Path) -> Result<()> {
    use rustix::mount::{mount_bind_recursive, mount_change, unmount};
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .doing(|| "shutting off mounts".into())?;
    mount_bind_recursive(root, root).at("binding", root)?;
    rustix::process::chdir(root).at("entering", root)?;
    match rustix::process::pivot_root(".", ".") {
        // pivot_root(2), "pivot_root(".", ".")": the old root ends up on top of the new one and is
        // taken off.
        Ok(()) => unmount(".", UnmountFlags::DETACH).doing(|| "leaving the old root".into())?,
        // The rescue image's root is the kernel's rootfs, which cannot be pivoted: it is hidden.
        Err(rustix::io::Errno::INVAL) => {
            rustix::mount::mount_move(".", "/").at("changing the root to", root)?;
            rustix::process::chroot(".").at("changing the root to", root)?;
        }
        Err(why) => return Err(why).at("changing the root to", root),
    }
    rustix::process::chdir("/").at("entering", root)
}

fn mount(kind: &str, place: &str, flags: MountFlags, data: &std::ffi::CStr) -> Result<()> {
    let path = Path::new(place);
    if !path.is_dir() {
        fs::create_dir(path).at("making", path)?;
    }
    rustix::mount::mount(kind, path, kind, flags, data)
        .doing(|| format!("mounting {kind} on {place} inside"))
}

fn api_file_systems(devices: &[Block]) -> Result<()> {
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
    for (name, to) in LINKS {
        symlink(to, Path::new("/dev").join(name)).doing(|| format!("making /dev/{name} inside"))?;
    }
    devices.iter().try_for_each(Block::put)?;
    read_only(Path::new("/proc/sys"))?;
    // It restarts the machine whatever the capabilities.
    if Path::new("/proc/sysrq-trigger").exists() {
        read_only(Path::new("/proc/sysrq-trigger"))?;
    }
    Ok(())
}

fn node(path: &Path, kind: FileType, mode: u32, device: u64) -> Result<()> {
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(mode), device).at("making", path)?;
    // The umask may have taken bits away.
    rustix::fs::chmod(path, Mode::from_raw_mode(mode)).at("making", path)
}

/// Makes what is mounted at a path read-only with all that is mounted below; other options stay.
fn read_only(path: &Path) -> Result<()> {
    let refused = || format!("making {} read-only inside", path.display());
    rustix::mount::mount_bind_recursive(path, path).doing(refused)?;
    sys::set_mount_option(path, MountOption::ReadOnly).doing(refused)
}

fn place_esp(esp: Option<OwnedFd>) -> Result<()> {
    let places = || ESP.iter().map(Path::new).filter(|place| place.is_dir());
    // Even where the BE's own mounts have it: a package that installs a loader finds nothing to
    // write to.
    for place in places() {
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        rustix::mount::mount("tmpfs", place, "tmpfs", flags, c"mode=700,size=4k")
            .at("hiding", place)?;
    }
    let Some(esp) = esp else { return Ok(()) };
    let Some(place) = places().next() else {
        return Err(Error::Failed(
            "the boot environment has neither /boot/efi nor /efi to mount its ESP on: make one of \
            them"
                .into(),
        ));
    };
    rustix::mount::move_mount(esp, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .at("mounting", place)
}

/// systemd-resolved and resolvconf keep the file in /run, which is empty inside.
fn resolver_behind_a_link(text: &[u8]) -> Result<()> {
    let file = Path::new("/etc/resolv.conf");
    let mut target = match fs::read_link(file) {
        Ok(target) if !file.exists() => Path::new("/etc").join(target),
        _ => return Ok(()),
    };
    // Only the usual forms: ../run/x and /run/x.
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

fn run(order: &Order) -> Result<u8> {
    let Some((program, arguments)) = order.command.split_first() else {
        return Err(Error::Usage("no command to run".into()));
    };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .envs(PASSED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("USER", "root")
        .env("LOGNAME", "root")
        .env("SHELL", "/bin/sh")
        .env("LANG", "C.UTF-8")
        .current_dir("/");
    if !order.interactive && std::env::var_os("DEBIAN_FRONTEND").is_none() {
        command.env("DEBIAN_FRONTEND", "noninteractive");
    }
    if !order.interactive {
        // A group of its own: signals are passed on to it, not to PID 1.
        command.process_group(0);
    }
    match command.spawn() {
        Ok(child) => {
            let pid = i32::try_from(child.id()).unwrap_or(i32::MAX);
            let group = if order.interactive { pid } else { -pid };
            let [pid, group] = [pid, group].map(nix::unistd::Pid::from_raw);
            Ok(pass_signals_until_end(pid, group, order.interactive))
        }
        Err(why) => {
            complain(&format!("{}: {why}", OsStr::new(program).display()));
            Ok(if why.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 })
        }
    }
}

/// A block device as it will be seen inside.
#[derive(Debug)]
struct Block {
    node: PathBuf,
    uuid: Option<String>,
    device: u64,
}

impl Block {
    /// The device and, for a partition, its disk if that is wanted.
    fn look(node: &Path, uuid: Option<&str>, with_disk: bool) -> Result<Vec<Block>> {
        let metadata = fs::metadata(node).at("looking at", node)?;
        let device = metadata.rdev();
        if !std::os::unix::fs::FileTypeExt::is_block_device(&metadata.file_type())
            || !node.starts_with("/dev")
        {
            return Err(Error::Failed(format!(
                "{} is no block device: name one under /dev",
                node.display()
            )));
        }
        let mut found =
            vec![Block { node: node.to_owned(), uuid: uuid.map(str::to_owned), device }];
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        let sys = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).unwrap_or_default();
        // The kernel's own name too, where the given one is a link or a mapper's.
        if let Some(name) = sys.file_name() {
            let kernel = Path::new("/dev").join(name);
            if kernel != node {
                found.push(Block { node: kernel, uuid: None, device });
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
            found.push(Block { node, uuid: None, device: rustix::fs::makedev(major, minor) });
        }
        Ok(found)
    }

    fn put(&self) -> Result<()> {
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
