use std::io::Write;
use std::path::Path;

use super::*;
use crate::storage::testing::{Loop, image, in_namespace, is_root};
use crate::tool::Tool;

const MOUNTINFO: &[u8] = b"22 27 0:21 / /proc rw,relatime - proc proc rw\n\
    27 1 254:2 / / rw,relatime shared:1 - ext4 /dev/vda2 rw,errors=remount-ro\n\
    40 27 0:35 /@home /home rw,relatime shared:2 master:1 - btrfs /dev/vdb rw,space_cache=v2,subvol=/@home\n\
    41 27 254:3 / /mnt/with\\040space ro,noatime - xfs /dev/vda3 rw,attr2\n\
    41 27 254:4 / /mnt/with\\040space rw - xfs /dev/vda4 rw\n\
    broken line\n";

#[test]
fn mountinfo_is_parsed() {
    let mounts = Mounts::parse(MOUNTINFO);
    assert_eq!(mounts.iter().count(), 5);
    let home = mounts.at(Path::new("/home")).unwrap();
    assert_eq!((home.root.to_str(), home.fs_type.as_str(), home.number), (Some("/@home"), "btrfs", (0, 35)));
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
            if fs_type != "xfs" {
                let bytes = std::fs::read(file.path()).unwrap();
                assert!(crate::storage::probe::probe(&bytes).super_block().unwrap().dirty, "{fs_type}");
            }
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
                mount_with(&device.node, fs_type, "ro", dir.path()).unwrap().unmount().unwrap();
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
            "defaults,noatime,nofail,x-systemd.a=b,size=64k,nodev",
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
