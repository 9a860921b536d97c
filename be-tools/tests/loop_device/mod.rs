//! File systems on loop devices for tests. They are removed when dropped.

#![allow(dead_code, clippy::unwrap_used, reason = "shared by several test programs")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use be_tools::storage::device::BlockDevice;
use be_tools::storage::hold::Hold;
use nix::sched::{CloneFlags, setns, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

/// Whether the test runs as root, which loop devices need. Otherwise prints that it is skipped.
pub fn root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if root {
        enter_shared_namespace();
    } else {
        assert!(std::env::var_os("CI").is_none(), "this test needs root, also in CI");
        eprintln!("skipped: needs root");
    }
    root
}

/// Moves this thread, and what it starts, to the mount namespace of all tests of this program. Its
/// mounts are shared, as systemd sets it: what one test unmounts is then unmounted in the private
/// namespace of another test's `be` as well (mount_namespaces(7)). In a container, where mounts
/// are private, its device would be in use until that one ends.
fn enter_shared_namespace() {
    static NAMESPACE: OnceLock<std::fs::File> = OnceLock::new();
    let working_directory = std::env::current_dir().unwrap();
    let namespace = NAMESPACE.get_or_init(|| {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        for propagation in [MountPropagationFlags::DOWNSTREAM, MountPropagationFlags::SHARED] {
            mount_change("/", MountPropagationFlags::REC | propagation).unwrap();
        }
        std::fs::File::open("/proc/thread-self/ns/mnt").unwrap()
    });
    // setns(2) fails for a thread that shares its working directory with others, and changes it.
    unshare(CloneFlags::CLONE_FS).unwrap();
    setns(namespace, CloneFlags::CLONE_NEWNS).unwrap();
    std::env::set_current_dir(working_directory).unwrap();
}

/// Runs a shell script and returns what it printed.
pub fn sh(directory: &Path, script: &str) -> String {
    let out = Command::new("sh").args(["-ec", script]).current_dir(directory).output().unwrap();
    let text = [out.stdout, out.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(out.status.success(), "{script}: {text}");
    text
}

/// Runs a program. A device that another program's scan has mounted for a moment is waited for.
fn run(program: &str, arguments: &[&str]) {
    for attempt in 0..100 {
        let out = Command::new(program).args(arguments).output().unwrap();
        let words = String::from_utf8_lossy(&out.stderr);
        if out.status.success() {
            return;
        }
        // A btrfs that another program has mounted read-only answers EINVAL.
        let is_busy = words.contains("busy")
            || words.contains("in use")
            || (words.contains("wrong fs type") && attempt < 20);
        assert!(is_busy && attempt < 99, "{program} {arguments:?}: {words}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// How many sectors of 512 bytes were written to a loop device since it was created. The number of
/// requests would not do, because each flush counts as one.
pub fn sectors_written(node: &str) -> u64 {
    let stat = std::fs::read_to_string(format!(
        "/sys/class/block/{}/stat",
        node.trim_start_matches("/dev/")
    ));
    stat.unwrap().split_whitespace().nth(6).unwrap().parse().unwrap()
}

/// Waits until no mount of a device is left in any namespace: another program's scan that began
/// while it was mounted here holds that mount until it ends, and the kernel writes the super block
/// only then.
pub fn wait_until_unused(node: &str) {
    let is_unused = is_unused_within(node, Duration::from_secs(20));
    assert!(
        is_unused,
        "{node} is still mounted by another program, which disturbs this test: end it"
    );
}

/// As [`wait_until_unused`], for at most this long. Returns whether none is left.
pub fn is_unused_within(node: &str, patience: Duration) -> bool {
    use std::os::unix::fs::OpenOptionsExt;
    let flags = rustix::fs::OFlags::EXCL.bits().cast_signed();
    let open = || std::fs::File::options().read(true).custom_flags(flags).open(node);
    let end = Instant::now() + patience;
    while open().is_err() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    true
}

/// A file system in an image file, mounted.
pub struct Mounted {
    image: Option<PathBuf>,
    root: PathBuf,
    directory: tempfile::TempDir,
}

impl Mounted {
    /// Makes a file system and mounts it.
    pub fn new(mkfs: &[&str], size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("image");
        let mountpoint = directory.path().join("mounted");
        std::fs::create_dir(&mountpoint).unwrap();
        let text = image.to_str().unwrap();
        run("truncate", &["-s", size, text]);
        run(mkfs[0], &[&mkfs[1..], &[text]].concat());
        let mounted = Mounted { image: Some(image), root: mountpoint, directory };
        mounted.mount("loop,noatime");
        mounted
    }

    fn mount(&self, options: &str) {
        let image = self.image.as_deref().unwrap();
        run("mount", &["-o", options, image.to_str().unwrap(), self.path().to_str().unwrap()]);
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Makes sure that it is also removed when this program ends without dropping it, because a
    /// static is never dropped.
    pub fn until_the_end(self) -> Self {
        // The kernel closes the pipe when this process ends, for whatever reason.
        let end = r#"cat; umount -R -l "$0"; rm -r "$1""#;
        let mut shell = Command::new("setsid");
        shell
            .args(["sh", "-c", end])
            .args([self.path(), self.directory.path()])
            .stdin(Stdio::piped());
        std::mem::forget(shell.spawn().unwrap().stdin);
        self
    }

    /// Remounts it read-only, with nothing of it cached.
    pub fn read_only(self) -> Self {
        run("umount", &[self.path().to_str().unwrap()]);
        self.mount("loop,ro,noatime");
        self
    }

    /// Remounts it, with nothing of it cached.
    pub fn cold(self) -> Self {
        self.remounted(|_| {})
    }

    /// Syncs it, and returns [`sectors_written`] of its device.
    pub fn sectors_written(&self) -> u64 {
        sh(&self.root, "sync -f .");
        sectors_written(sh(&self.root, "findmnt -no SOURCE -T .").trim())
    }

    /// Remounts it. `edit` changes the image while it is unmounted.
    pub fn remounted(self, edit: impl FnOnce(&Path)) -> Self {
        run("umount", &[self.path().to_str().unwrap()]);
        edit(self.image.as_deref().unwrap());
        self.mount("loop,noatime");
        self
    }

    /// Mounts it at a second mount point, which is unmounted with the file system that has it.
    pub fn bind_to(&self, mountpoint: &Path) {
        run("mount", &["--bind", self.path().to_str().unwrap(), mountpoint.to_str().unwrap()]);
    }

    /// Makes a read-only bind mount, on which nothing else is mounted.
    pub fn bind_alone(&self) -> Mounted {
        let directory = tempfile::tempdir().unwrap();
        let mountpoint = directory.path().to_str().unwrap().to_owned();
        run("mount", &["--bind", self.path().to_str().unwrap(), &mountpoint]);
        run("mount", &["-o", "remount,bind,ro,noatime", &mountpoint]);
        Mounted { image: None, root: directory.path().to_owned(), directory }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(self.path()).status();
    }
}

/// A loop device on an image file, which is not mounted.
pub struct Device {
    /// The device node.
    pub node: PathBuf,
    directory: tempfile::TempDir,
}

impl Device {
    /// The device, held as it is now.
    pub fn hold(&self) -> Hold {
        Hold::take(&BlockDevice::at(&self.node).unwrap()).unwrap()
    }

    /// Makes an empty device. `size` is an argument of truncate(1).
    pub fn blank(size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir(directory.path().join("mounted")).unwrap();
        sh(directory.path(), &format!("truncate -s {size} image"));
        let node = sh(directory.path(), "losetup --find --show image").trim().into();
        Device { node, directory }
    }

    /// Makes a device with a file system.
    pub fn made(mkfs: &[&str], size: &str) -> Self {
        let device = Device::blank(size);
        run(mkfs[0], &[&mkfs[1..], &[device.node.to_str().unwrap()]].concat());
        device
    }

    /// Makes a device that is full of random bytes.
    pub fn garbage(size: &str) -> Self {
        let device = Device::blank(size);
        let fill = "head -c 8M /dev/urandom >bytes; while cat bytes; do :; done 2>/dev/null";
        sh(device.directory.path(), &format!("({fill}) >{}; rm bytes", device.node.display()));
        device
    }

    /// Mounts the device, calls `work` with the mount point, and unmounts it.
    pub fn mounted<T>(&self, options: &str, work: impl FnOnce(&Path) -> T) -> T {
        struct Unmount(PathBuf);
        impl Drop for Unmount {
            fn drop(&mut self) {
                let _ = Command::new("umount").arg(&self.0).status();
            }
        }
        let mountpoint = self.directory.path().join("mounted");
        run("mount", &["-o", options, self.node.to_str().unwrap(), mountpoint.to_str().unwrap()]);
        let unmount = Unmount(mountpoint);
        let result = work(&unmount.0);
        drop(unmount);
        self.settle();
        result
    }

    /// Waits until the device is not mounted in any namespace, and drops what other programs read
    /// of it in the meantime: the next reader gets what is on the device.
    fn settle(&self) {
        let node = self.node.to_str().unwrap();
        wait_until_unused(node);
        run("blockdev", &["--flushbufs", node]);
    }

    /// The image file.
    pub fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// The checksum of all its bytes.
    pub fn sum(&self) -> String {
        self.settle();
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(self.image()).unwrap()).unwrap();
        hasher.finalize().to_string()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--quiet", "--lazy"]).arg(&self.node).output();
        let _ = Command::new("losetup").arg("--detach").arg(&self.node).output();
    }
}
