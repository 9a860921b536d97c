//! What a mounted file system has only in its log is written to its place, where a boot loader, which
//! replays no log, finds it.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, fstatfs, openat};

use crate::error::{Doing, Result};
use crate::sys;

/// XFS_SUPER_MAGIC of linux/magic.h.
const XFS: i64 = 0x5846_5342;

/// Writes the log of the file system of a directory home if it is an XFS, whose syncfs(2) does not.
/// It is frozen and thawed for that, so that other writers wait for a moment.
///
/// # Errors
/// As ioctl_fs(2).
pub(crate) fn checkpoint(directory: &OwnedFd) -> Result<()> {
    let doing = || "writing the log of the file system with the boot menu to its place".into();
    if fstatfs(directory).doing(doing)?.f_type == XFS {
        // What was found by O_PATH takes no ioctl(2).
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(directory, ".", flags, Mode::empty()).doing(doing)?;
        sys::freeze_and_thaw(&opened).doing(doing)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::RootDir;
    use crate::storage::mkfs;
    use crate::storage::testing::{LoopDevice, image, in_namespace, is_root, mount_target};
    use crate::storage::volume::Access;

    #[test]
    fn a_loader_that_replays_no_log_finds_what_was_written() {
        if !is_root() {
            return;
        }
        let file = image(320 << 20);
        let device = LoopDevice::attach(file.path());
        mkfs::make("xfs", &device.hold(), &uuid::Uuid::new_v4().to_string(), None).unwrap();
        in_namespace(|| {
            let dir = tempfile::tempdir().unwrap();
            let _mounted = mount_target(&device.node, "xfs", dir.path()).unwrap();
            std::fs::create_dir_all(dir.path().join("boot/grub")).unwrap();
            std::fs::write(dir.path().join("boot/grub/grub.cfg"), "menu").unwrap();
            let root = RootDir::open(dir.path()).unwrap();
            root.sync().unwrap();
            let is_on_the_disk = || {
                let copy = image(0);
                std::fs::copy(file.path(), copy.path()).unwrap();
                let copied = LoopDevice::attach(copy.path());
                let at = tempfile::tempdir().unwrap();
                let table = crate::storage::mounts::Mounts::default();
                let shown = copied.file_system().show(&table, Access::Look, at.path()).unwrap();
                let found = at.path().join("boot/grub/grub.cfg").exists();
                shown.unmount().unwrap();
                found
            };
            assert!(!is_on_the_disk(), "else there is nothing to do");
            checkpoint(&root.directory("/boot/grub").unwrap().unwrap()).unwrap();
            assert!(is_on_the_disk());
            std::fs::write(dir.path().join("boot/grub/grub.cfg"), "it is thawed").unwrap();
        });
    }
}
