//! Helpers for tests: image files and loop devices that are removed with their handle.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::NamedTempFile;

use super::device::BlockDevice;
use super::hold::Hold;
use super::mount_call::MountCall;
use super::mounts::Mounted;
use super::retry::retry;
use super::stack::Stack;
use super::subvolume::Subvolume;
use super::volume::{FileSystem, Volume};
use crate::error::Result;
use crate::tool::Tool;

/// A sparse file of `size` bytes.
pub(crate) fn image(size: u64) -> NamedTempFile {
    // sfdisk puts a `p` before the number of a partition if the name of the disk ends in a digit.
    let file = tempfile::Builder::new().suffix(".image").tempfile().unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

/// Whether the test may use loop devices and mounts. If not, prints that it is skipped.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "loop devices and mounts need root, also in CI");
        eprintln!("skipped: loop devices and mounts need root");
    }
    root
}

/// A loop device over a file.
pub(crate) struct LoopDevice {
    pub(crate) node: PathBuf,
}

/// Mounts a device for writing.
pub(crate) fn mount_target(device: &Path, fs_type: &str, at: &Path) -> Result<Mounted> {
    MountCall { device, fs_type, subvolume: None, at }.for_writing()
}

/// Mounts a device with options of fstab(5).
pub(crate) fn mount_with(
    device: &Path,
    fs_type: &str,
    subvolume: Option<&str>,
    options: &str,
    at: &Path,
) -> Result<Mounted> {
    let subvolume = subvolume.and_then(Subvolume::at);
    MountCall { device, fs_type, subvolume: subvolume.as_ref(), at }
        .with_options(options, rustix::mount::MountFlags::empty())
}

impl LoopDevice {
    /// The device, as a scan would find it now.
    pub(crate) fn device(&self) -> BlockDevice {
        BlockDevice::at(&self.node).unwrap()
    }

    /// The device, held as it is now.
    pub(crate) fn hold(&self) -> Hold {
        Hold::take(&self.device()).unwrap()
    }

    /// The file system on the device.
    pub(crate) fn file_system(&self) -> FileSystem {
        let device = Arc::new(self.device());
        FileSystem::found(Volume { device, subvolume: None, stack: Stack::default() }).unwrap()
    }

    pub(crate) fn attach(file: &Path) -> Self {
        let node = Tool::new("losetup").args(["--find", "--show"]).arg(file).run().unwrap();
        LoopDevice { node: node.trim().into() }
    }
}

/// Lets the kernel forget that a device is one of a btrfs with several. Another program's scan may
/// have it mounted for a moment.
pub(crate) fn forget_btrfs(node: &Path) {
    let forget = || Tool::new("btrfs").args(["device", "scan", "--forget"]).arg(node).run();
    retry(Duration::from_secs(10), |_| true, forget).unwrap();
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        let _ = Tool::new("losetup").arg("--detach").arg(&self.node).run();
    }
}

/// Runs a test in a thread in a private mount namespace, so that no mount remains after a panic.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let run = || {
        super::namespace::enter_private_namespace().unwrap();
        test()
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The kernel release in [`debian_root`].
pub(crate) const RELEASE: &str = "6.1.0-18-amd64";

/// Fills `dir` with the files of a Debian root that a scan reads: merged /usr, with its symlinks.
pub(crate) fn debian_root(dir: &Path, fstab: &str, root_uuid: &str) {
    use std::fs::{self, create_dir_all};
    use std::os::unix::fs::symlink;
    for directory in
        ["etc", "boot/grub", "usr/sbin", "usr/bin", "usr/lib64", "usr/lib/systemd", "home", "proc"]
    {
        create_dir_all(dir.join(directory)).unwrap();
    }
    for (link, to) in
        [("sbin", "usr/sbin"), ("bin", "usr/bin"), ("lib", "usr/lib"), ("lib64", "usr/lib64")]
    {
        symlink(to, dir.join(link)).unwrap();
    }
    let modules = format!("usr/lib/modules/{RELEASE}");
    create_dir_all(dir.join(&modules)).unwrap();
    let put = |path: &str, bytes: &[u8]| fs::write(dir.join(path), bytes).unwrap();
    put(
        "usr/lib/os-release",
        b"PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\nVERSION_ID='12'\n",
    );
    symlink("../usr/lib/os-release", dir.join("etc/os-release")).unwrap();
    put("etc/fstab", fstab.as_bytes());
    put("etc/passwd", b"root:x:0:0::/root:/bin/sh\n");
    put("etc/hostname", b"fixture\n");
    put(&format!("{modules}/modules.dep"), b"");
    let mut kernel = vec![1; 8192];
    kernel[0x1f1] = 1;
    kernel[0x1f4..0x1f8].copy_from_slice(&(7168_u32 / 16).to_le_bytes());
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
    let version = format!("{RELEASE} (maker) #1 SMP\0");
    kernel[0x500..0x500 + version.len()].copy_from_slice(version.as_bytes());
    put(&format!("boot/vmlinuz-{RELEASE}"), &kernel);
    put(&format!("boot/initrd.img-{RELEASE}"), b"\x28\xb5\x2f\xfd and the rest of it");
    let cfg = format!(
        "search --no-floppy --fs-uuid --set=root {root_uuid}\nmenuentry 'Debian GNU/Linux' --id x \
        {{\n\
         \tlinux /boot/vmlinuz-{RELEASE} root=UUID={root_uuid} ro quiet\n\tinitrd \
         /boot/initrd.img-{RELEASE}\n}}\n"
    );
    put("boot/grub/grub.cfg", cfg.as_bytes());
    let program = |path: &str, bytes: &[u8]| {
        put(path, bytes);
        fs::set_permissions(dir.join(path), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
    };
    program("usr/lib/systemd/systemd", &fs::read("/bin/true").unwrap());
    program("usr/lib64/ld-linux-x86-64.so.2", b"\x7fELF");
    symlink("/lib/systemd/systemd", dir.join("usr/sbin/init")).unwrap();
}

/// A loop device with an unmounted root file system.
pub(crate) struct RootFileSystem {
    pub(crate) device: LoopDevice,
    pub(crate) uuid: String,
    _file: NamedTempFile,
}

impl RootFileSystem {
    /// Makes the file system. `edit` gets the directory at which it is mounted, and its UUID.
    pub(crate) fn make(fs_type: &str, edit: impl FnOnce(&Path, &str) + Send) -> Self {
        let file = image(if fs_type == "xfs" { 320 << 20 } else { 128 << 20 });
        let device = LoopDevice::attach(file.path());
        let uuid = uuid::Uuid::new_v4().to_string();
        super::mkfs::make(fs_type, &device.hold(), &uuid, None).unwrap();
        in_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let mounted = mount_target(&device.node, fs_type, dir.path()).unwrap();
            edit(dir.path(), &uuid);
            mounted.unmount().unwrap();
        });
        RootFileSystem { device, uuid, _file: file }
    }

    /// A Debian root whose fstab mounts nothing else.
    pub(crate) fn debian(fs_type: &str) -> Self {
        RootFileSystem::make(fs_type, |dir, uuid| {
            debian_root(dir, &format!("UUID={uuid} / {fs_type} defaults 0 1\n"), uuid);
        })
    }
}
