use std::io::Write;
use std::path::Path;

use super::*;
use crate::storage::testing::{Loop, image, in_namespace, is_root};
use crate::tool::Tool;

const MOUNTINFO: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
    27 1 254:2 / / rw,relatime shared:1 - ext4 /dev/vda2 rw,errors=remount-ro\n\
    40 27 0:35 /@home /home rw,relatime shared:2 master:1 - btrfs /dev/vdb \
    rw,space_cache=v2,subvol=/@home\n\
    41 27 254:3 / /mnt/with\\040space ro,noatime - xfs /dev/vda3 rw,attr2\n\
    41 27 254:4 / /mnt/with\\040space rw - xfs /dev/vda4 rw\n\
    broken line\n";

#[test]
fn mountinfo_is_parsed() {
    let mounts = Mounts::parse(MOUNTINFO);
    assert_eq!(mounts.iter().count(), 5);
    let home = mounts.at(Path::new("/home")).unwrap();
    assert_eq!(
        (home.root.to_str(), home.fs_type.as_str(), home.number),
        (Some("/@home"), "btrfs", (0, 35))
    );
    assert_eq!(mounts.at(Path::new("/mnt/with space")).unwrap().number, (254, 4));
    assert!(mounts.iter().any(|m| m.number == (254, 3) && m.is_read_only()));
    assert_eq!(mounts.under(Path::new("/mnt")).count(), 2);
}

fn sha256(path: &Path) -> String {
    Tool::new("sha256sum").arg(path).run().unwrap()
}

/// An image whose file system was in use when its machine died.
fn dirty_image(program: &str, arguments: &[&str], fs_type: &str) -> tempfile::NamedTempFile {
    let live = image(if fs_type == "xfs" { 320 << 20 } else { 128 << 20 });
    Tool::new(program).args(arguments).arg(live.path()).run().unwrap();
    let copy = image(0);
    let device = Loop::attach(live.path());
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
            let device = Loop::attach(file.path());
            let dir = tempfile::tempdir().unwrap();
            let mounted = mount_for_scan(&device.node, fs_type, None, dir.path()).unwrap();
            assert!(std::fs::read_dir(dir.path()).unwrap().count() < 100);
            assert!(std::fs::write(dir.path().join("new"), "").is_err());
            mounted.unmount().unwrap();
            drop(device);
            assert_eq!(before, sha256(file.path()), "{fs_type}");
            // The proof has teeth: an ordinary read-only mount does write to a dirty ext4.
            if fs_type == "ext4" {
                let device = Loop::attach(file.path());
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
fn a_read_only_bind_shows_what_mounts_hide_and_takes_no_write() {
    if !is_root() {
        return;
    }
    in_namespace(|| {
        let (source, view) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(source.path().join("var")).unwrap();
        std::fs::write(source.path().join("var/hidden"), "").unwrap();
        let over = bind(view.path(), &source.path().join("var")).unwrap();
        assert!(!source.path().join("var/hidden").exists());
        let target = tempfile::tempdir().unwrap();
        let shown = bind_read_only(source.path(), target.path()).unwrap();
        assert!(target.path().join("var/hidden").exists());
        let error = std::fs::write(target.path().join("var/hidden"), "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        drop(shown);
        assert!(!target.path().join("var").exists());
        drop(over);
        assert!(source.path().join("var/hidden").exists());
    });
}

#[test]
fn options_of_fstab_reach_the_kernel() {
    if !is_root() {
        return;
    }
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount_with(
            Path::new("tmpfs"),
            "tmpfs",
            None,
            "defaults,noatime,nofail,x-systemd.a=b,X-mount.mkdir=0700,size=64k,nodev",
            dir.path(),
        )
        .unwrap();
        let mounts = Mounts::parse(&std::fs::read("/proc/thread-self/mountinfo").unwrap());
        let seen = mounts.at(dir.path()).unwrap();
        assert!(seen.options.contains("noatime") && seen.options.contains("nodev"), "{seen:?}");
        assert!(seen.super_options.contains("size=64k"), "{seen:?}");
        drop(mounted);
    });
}

#[test]
fn a_broken_disk_cannot_make_this_machine_panic() {
    if !is_root() {
        return;
    }
    let file = image(64 << 20);
    Tool::new("mke2fs").args(["-qF", "-t", "ext4", "-e", "panic"]).arg(file.path()).run().unwrap();
    in_namespace(|| {
        let device = Loop::attach(file.path());
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

/// Whatever was written before, and however often the log has turned: clean after an unmount, dirty
/// in between. The kernel judges, by mounting a device it cannot write to.
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
        let device = Loop { node: node.trim().into() };
        let dir = tempfile::tempdir().unwrap();
        mount_with(&device.node, "xfs", None, "ro,nouuid", dir.path())
            .map(|m| m.unmount().unwrap())
            .is_err()
    };
    assert!(!is_dirty(file.path()) && !kernel_says_dirty(file.path()));
    in_namespace(|| {
        for round in 0..6_u64 {
            let device = Loop::attach(file.path());
            let dir = tempfile::tempdir().unwrap();
            let mounted = mount_target(&device.node, "xfs", dir.path()).unwrap();
            // Renaming fills the log and little else.
            for index in 0..12_000 + 1000 * round {
                let path = |n: u64| dir.path().join(format!("{}-{n}", "long".repeat(40)));
                std::fs::write(path(index % 200), "").unwrap();
                std::fs::rename(path(index % 200), path(200 + index % 300)).unwrap();
                if index % 40 == 0 {
                    std::fs::File::open(dir.path()).unwrap().sync_all().unwrap();
                }
            }
            std::fs::File::open(dir.path()).unwrap().sync_all().unwrap();
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

proptest::proptest! {
    #[test]
    fn any_text_of_the_kernel_is_survived(text in "[0-9a-z:/ \\\\\n-]{0,200}") {
        let _ = Mounts::parse(text.as_bytes()).iter().count();
        let _ = crate::storage::swap::parse(text.as_bytes());
    }
}
