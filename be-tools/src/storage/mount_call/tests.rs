use std::io::Write;
use std::path::Path;

use crate::storage::mounts::Mounts;
use crate::storage::testing::{LoopDevice, image, in_namespace, is_root, mount_target, mount_with};
use crate::storage::volume::Access;
use crate::tool::Tool;

fn sha256(path: &Path) -> String {
    Tool::new("sha256sum").arg(path).run().unwrap()
}

/// An image of a file system that was in use when its machine lost power.
fn dirty_image(program: &str, arguments: &[&str], fs_type: &str) -> tempfile::NamedTempFile {
    let live = image(if fs_type == "xfs" { 320 << 20 } else { 128 << 20 });
    Tool::new(program).args(arguments).arg(live.path()).run().unwrap();
    let copy = image(0);
    let device = LoopDevice::attach(live.path());
    let dir = tempfile::tempdir().unwrap();
    let mounted = mount_target(&device.node, fs_type, dir.path()).unwrap();
    for index in 0..50 {
        let mut file = std::fs::File::create(dir.path().join(format!("file{index}"))).unwrap();
        file.write_all(&[7; 9000]).unwrap();
        file.sync_all().unwrap();
    }
    Tool::new("cp").arg("--sparse=always").arg(&device.node).arg(copy.path()).run().unwrap();
    drop(mounted);
    copy
}

#[test]
fn scanning_a_dirty_file_system_changes_no_byte() {
    if !is_root() {
        return;
    }
    in_namespace(|| {
        for (program, arguments, fs_type) in [
            ("mke2fs", &["-qFt", "ext4"][..], "ext4"),
            ("mkfs.xfs", &["-q"], "xfs"),
            ("mkfs.btrfs", &["-q"], "btrfs"),
        ] {
            let file = dirty_image(program, arguments, fs_type);
            let before = sha256(file.path());
            let bytes = std::fs::read(file.path()).unwrap();
            assert!(crate::storage::probe::probe(&bytes).super_block().unwrap().dirty, "{fs_type}");
            let device = LoopDevice::attach(file.path());
            let dir = tempfile::tempdir().unwrap();
            let access = Access::Look;
            let mounted =
                device.file_system().show(&Mounts::default(), access, dir.path()).unwrap();
            assert!(std::fs::read_dir(dir.path()).unwrap().count() < 100);
            assert!(std::fs::write(dir.path().join("new"), "").is_err());
            mounted.unmount().unwrap();
            drop(device);
            assert_eq!(before, sha256(file.path()), "{fs_type}");
            // An ordinary read-only mount does write to a dirty ext4.
            if fs_type == "ext4" {
                let device = LoopDevice::attach(file.path());
                mount_with(&device.node, fs_type, None, "ro", dir.path())
                    .unwrap()
                    .unmount()
                    .unwrap();
                drop(device);
                assert_ne!(before, sha256(file.path()));
            }
        }
    });
}

#[test]
fn options_of_fstab_reach_the_kernel() {
    if !is_root() {
        return;
    }
    let file = image(64 << 20);
    Tool::new("mke2fs").args(["-qFt", "ext4"]).arg(file.path()).run().unwrap();
    in_namespace(|| {
        let device = LoopDevice::attach(file.path());
        let dir = tempfile::tempdir().unwrap();
        let options = "defaults,noatime,nofail,x-systemd.a=b,X-mount.mkdir=0700,commit=9,nodev";
        let mounted = mount_with(&device.node, "ext4", None, options, dir.path()).unwrap();
        let mounts = Mounts::parse(&std::fs::read("/proc/thread-self/mountinfo").unwrap());
        let seen = mounts.at(dir.path()).unwrap();
        assert!(seen.options.contains("noatime") && seen.options.contains("nodev"), "{seen:?}");
        assert!(seen.super_options.contains("commit=9"), "{seen:?}");
        assert!(mounted.warnings().is_empty(), "{:?}", mounted.warnings());
        mounted.unmount().unwrap();
    });
}

/// The log of the first is on another device. If the kernel were told to put it on a device that
/// holds something else, it would write a log over that.
#[test]
fn an_option_of_fstab_cannot_make_the_kernel_write_to_another_device() {
    if !is_root() {
        return;
    }
    let files = [image(320 << 20), image(80 << 20), image(80 << 20)];
    let [device, log, other] = files.each_ref().map(|file| LoopDevice::attach(file.path()));
    Tool::new("mkfs.xfs")
        .args(["-q", "-f", "-l"])
        .arg(format!("logdev={},size=64m", log.node.display()))
        .arg(&device.node)
        .run()
        .unwrap();
    Tool::new("mke2fs").args(["-qFt", "ext4"]).arg(&other.node).run().unwrap();
    let before = sha256(&other.node);
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let options = format!("noatime,logdev={}", other.node.display());
        let why = mount_with(&device.node, "xfs", None, &options, dir.path()).unwrap_err();
        assert!(why.to_string().contains("Invalid argument"), "{why}");
    });
    assert_eq!(before, sha256(&other.node));
}

#[test]
fn an_option_that_this_kernel_does_not_take_is_left_out_with_a_warning() {
    if !is_root() {
        return;
    }
    for (fs_type, program, removed) in
        [("xfs", "mkfs.xfs", "nobarrier"), ("btrfs", "mkfs.btrfs", "inode_cache")]
    {
        let file = image(320 << 20);
        Tool::new(program).arg("-q").arg(file.path()).run().unwrap();
        in_namespace(|| {
            let device = LoopDevice::attach(file.path());
            let dir = tempfile::tempdir().unwrap();
            let options = format!("nodiratime,nosymlinks,{removed}");
            let mounted = mount_with(&device.node, fs_type, None, &options, dir.path()).unwrap();
            std::fs::write(dir.path().join("new"), "").unwrap();
            let mounts = Mounts::parse(&std::fs::read("/proc/thread-self/mountinfo").unwrap());
            assert!(mounts.at(dir.path()).unwrap().options.contains("nodiratime"));
            let [unknown, refused] = mounted.warnings() else { panic!("{:?}", mounted.warnings()) };
            assert!(unknown.ends_with(": nosymlinks"), "{unknown}");
            assert!(refused.contains("this kernel") && refused.ends_with(removed), "{refused}");
            mounted.unmount().unwrap();
        });
    }
}

#[test]
fn an_array_of_which_a_disk_is_missing_is_read() {
    if !is_root() {
        return;
    }
    let files = [image(256 << 20), image(256 << 20)];
    let [one, two] = files.each_ref().map(|file| LoopDevice::attach(file.path()));
    Tool::new("mkfs.btrfs")
        .args(["-q", "-f", "-d", "raid1", "-m", "raid1"])
        .args([&one.node, &two.node])
        .run()
        .unwrap();
    Tool::new("btrfs").args(["device", "scan", "--forget"]).arg(&two.node).run().unwrap();
    drop(two);
    let before = sha256(files[0].path());
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let file_system = one.file_system();
        let look = || file_system.show(&Mounts::default(), Access::Look, dir.path());
        look().unwrap().unmount().unwrap();
        // It is not written to.
        let hold = one.hold();
        let written = file_system.show(&Mounts::default(), Access::Write(&hold), dir.path());
        assert!(written.is_err());
    });
    crate::storage::testing::forget_btrfs(&one.node);
    drop(one);
    assert_eq!(before, sha256(files[0].path()));
}

#[test]
fn a_broken_disk_cannot_make_this_machine_panic() {
    if !is_root() {
        return;
    }
    let file = image(64 << 20);
    Tool::new("mke2fs").args(["-qF", "-t", "ext4", "-e", "panic"]).arg(file.path()).run().unwrap();
    in_namespace(|| {
        let device = LoopDevice::attach(file.path());
        let dir = tempfile::tempdir().unwrap();
        let is_safe = || {
            let mounts = Mounts::parse(&std::fs::read("/proc/thread-self/mountinfo").unwrap());
            let options = mounts.at(dir.path()).unwrap().super_options.clone();
            assert!(
                options.contains("errors=remount-ro") && !options.contains("errors=panic"),
                "{options}"
            );
        };
        let mounted = mount_target(&device.node, "ext4", dir.path()).unwrap();
        is_safe();
        mounted.unmount().unwrap();
        let mounted =
            mount_with(&device.node, "ext4", None, "noatime,errors=panic", dir.path()).unwrap();
        is_safe();
        mounted.unmount().unwrap();
    });
}

/// The log is clean after an unmount and dirty before it, however often it has wrapped. The kernel
/// is the reference: it refuses to mount a dirty file system on a device that it cannot write to.
#[test]
fn the_log_of_xfs_is_read_as_the_kernel_reads_it() {
    use crate::storage::probe::{Kind, OpenDevice, probe};
    if !is_root() {
        return;
    }
    let file = image(300 << 20);
    Tool::new("mkfs.xfs").args(["-q", "-l", "size=64m"]).arg(file.path()).run().unwrap();
    let is_dirty = |path: &Path| {
        let opened = OpenDevice { file: std::fs::File::open(path).unwrap(), size: 300 << 20 };
        let content = probe(&opened);
        assert_eq!(content.kind(), Some(Kind::Xfs));
        content.super_block().unwrap().dirty
    };
    let kernel_says_dirty = |path: &Path| {
        let node =
            Tool::new("losetup").args(["--find", "--show", "--read-only"]).arg(path).run().unwrap();
        let device = LoopDevice { node: node.trim().into() };
        let dir = tempfile::tempdir().unwrap();
        mount_with(&device.node, "xfs", None, "ro,nouuid", dir.path())
            .map(|m| m.unmount().unwrap())
            .is_err()
    };
    assert!(!is_dirty(file.path()) && !kernel_says_dirty(file.path()));
    in_namespace(|| {
        for round in 0..6_u64 {
            let device = LoopDevice::attach(file.path());
            let dir = tempfile::tempdir().unwrap();
            let mounted = mount_target(&device.node, "xfs", dir.path()).unwrap();
            // Renaming fills the log without filling the file system.
            for index in 0..12_000 + 1000 * round {
                let path = |n: u64| dir.path().join(format!("{}-{n}", "long".repeat(40)));
                std::fs::write(path(index % 200), "").unwrap();
                std::fs::rename(path(index % 200), path(200 + index % 300)).unwrap();
                if index % 40 == 0 {
                    std::fs::File::open(dir.path()).unwrap().sync_all().unwrap();
                }
            }
            std::fs::File::open(dir.path()).unwrap().sync_all().unwrap();
            // Another program may have read the log through the page cache while it was written.
            Tool::new("blockdev").arg("--flushbufs").arg(&device.node).run().unwrap();
            let copy = image(0);
            Tool::new("cp")
                .arg("--sparse=always")
                .arg(&device.node)
                .arg(copy.path())
                .run()
                .unwrap();
            assert_eq!(
                is_dirty(copy.path()),
                kernel_says_dirty(copy.path()),
                "used in round {round}"
            );
            assert!(is_dirty(copy.path()));
            mounted.unmount().unwrap();
            drop(device);
            assert_eq!(
                is_dirty(file.path()),
                kernel_says_dirty(file.path()),
                "unmounted in round {round}"
            );
            assert!(!is_dirty(file.path()));
        }
        let log = Tool::new("xfs_logprint").args(["-t"]).arg(file.path()).run().unwrap();
        assert!(log.contains("<CLEAN>"), "{log}");
    });
}
