use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Hold;
use crate::storage::probe::Content;
use crate::storage::testing::{LoopDevice, image, in_namespace, is_root, mount_target};

/// A new UUID: btrfs refuses one that another device has, and tests run in parallel.
fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[test]
fn every_type_is_made_over_every_other() {
    if !is_root() {
        return;
    }
    let file = image(320 << 20);
    let device = LoopDevice::attach(file.path());
    for fs_type in ["ext4", "vfat", "xfs", "swap", "btrfs", "vfat", "ext2", "ext3", "btrfs", "ext4"]
    {
        let uuid = if fs_type == "vfat" { "1234-ABCD".to_owned() } else { fresh() };
        make(fs_type, &device.hold(), &uuid, Some("LABEL")).unwrap();
        let content = device.device().content;
        let found = content.super_block().unwrap();
        assert_eq!(
            (found.kind.name(), found.uuid.as_str(), found.label.as_str()),
            (fs_type, uuid.as_str(), "LABEL")
        );
        let blkid = Tool::new("blkid")
            .args(["-p", "-o", "value", "-s", "TYPE"])
            .arg(&device.node)
            .run()
            .unwrap();
        assert_eq!(blkid.trim(), fs_type);
        let start = std::fs::read(file.path()).unwrap();
        assert!(!start.starts_with(b"LIFEBOAT"), "{fs_type}: the mark of an erased device stays");
    }
    wipe(&device.hold()).unwrap();
    assert_eq!(device.device().content, Content::Blank);
    assert!(Tool::new("btrfs").args(["check", "--super", "1"]).arg(&device.node).run().is_err());
    assert!(make("reiserfs", &device.hold(), &fresh(), None).is_err());
}

/// Writes the labels of a ZFS pool as libblkid recognises them: uberblocks in each label's ring.
fn write_zfs_labels(file: &std::fs::File, size: u64) {
    const LABEL: u64 = 256 << 10;
    let end = size / LABEL * LABEL;
    for label in [0, LABEL, end - 2 * LABEL, end - LABEL] {
        for uberblock in (128..256).map(|kibibytes| label + (kibibytes << 10)) {
            file.write_all_at(&0x00ba_b10c_u64.to_le_bytes(), uberblock).unwrap();
        }
    }
}

#[test]
fn the_labels_of_zfs_at_both_ends_are_erased() {
    let blkid = |path: &Path| Tool::new("blkid").arg("-p").arg(path).output().unwrap();
    // The labels at the end are aligned, so they begin the earlier, the less aligned the size is.
    for size in [64 << 20, (64 << 20) + (255 << 10)] {
        let image = image(size);
        let file = std::fs::File::options().read(true).write(true).open(image.path()).unwrap();
        write_zfs_labels(&file, size);
        // What an erased first MiB leaves is still a member of a pool.
        file.write_all_at(&vec![0; 1 << 20], 0).unwrap();
        let before = blkid(image.path());
        assert!(String::from_utf8_lossy(&before.stdout).contains("zfs_member"), "{before:?}");
        erase_to_fill(&OpenDevice::new(file).unwrap(), image.path()).unwrap();
        let after = blkid(image.path());
        assert_eq!(after.status.code(), Some(2), "{after:?}");
        assert_eq!(BlockDevice::at(image.path()).unwrap().content, Content::Blank);
    }
}

#[test]
fn a_device_that_was_wiped_counts_as_blank_although_content_is_left() {
    let image = image(64 << 20);
    let file = std::fs::File::options().read(true).write(true).open(image.path()).unwrap();
    file.write_all_at(b"content", 32 << 20).unwrap();
    assert_eq!(BlockDevice::at(image.path()).unwrap().content, Content::Unknown);
    let hold = Hold::take(&BlockDevice::at(image.path()).unwrap()).unwrap();
    wipe(&hold).unwrap();
    assert_eq!(BlockDevice::at(image.path()).unwrap().content, Content::Blank);
    // Without the mark, or with other content, it would be erased unseen.
    file.write_all_at(b"another", 32 << 20).unwrap();
    assert_eq!(BlockDevice::at(image.path()).unwrap().content, Content::Unknown);
}

#[test]
fn a_name_that_passes_to_another_device_under_a_running_mkfs_leads_it_nowhere() {
    if !is_root() {
        return;
    }
    let (file, other) = (image(512 << 20), image(512 << 20));
    let (device, victim) = (LoopDevice::attach(file.path()), LoopDevice::attach(other.path()));
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("disk");
    let point_to = |node: &Path| {
        let number = rustix::fs::stat(node).unwrap().st_rdev;
        let (next, block) = (directory.path().join("next"), rustix::fs::FileType::BlockDevice);
        rustix::fs::mknodat(rustix::fs::CWD, &next, block, 0o600.into(), number).unwrap();
        std::fs::rename(&next, &name).unwrap();
    };
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let made = std::thread::scope(|scope| {
        point_to(&device.node);
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                for node in [&victim.node, &device.node] {
                    point_to(node);
                    std::thread::sleep(Duration::from_millis(3));
                }
            }
        });
        let (mut made, mut refused) = (0, 0);
        let end = Instant::now() + Duration::from_secs(60);
        while (made < 3 || refused < 3) && Instant::now() < end {
            // At some moments the name is the right one when the plan is made, and when it is done.
            let Ok(found) = BlockDevice::at(&name) else { continue };
            if found.number != device.device().number {
                continue;
            }
            let Ok(hold) = Hold::take(&found) else { continue };
            match make("ext4", &hold, &fresh(), None) {
                Ok(_) => made += 1,
                Err(_) => refused += 1,
            }
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        made
    });
    assert!(made > 0, "none was made while its name came and went");
    assert_eq!(BlockDevice::at(&victim.node).unwrap().content, Content::Blank);
    assert_eq!(device.file_system().kind.name(), "ext4");
}

#[test]
fn a_mounted_device_is_not_erased() {
    if !is_root() {
        return;
    }
    let file = image(64 << 20);
    let device = LoopDevice::attach(file.path());
    let uuid = fresh();
    make("ext4", &device.hold(), &uuid, None).unwrap();
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let _mounted = mount_target(&device.node, "ext4", dir.path()).unwrap();
        assert!(matches!(make("ext4", &device.hold(), &fresh(), None), Err(Error::Refused(_))));
        assert!(matches!(wipe(&device.hold()), Err(Error::Refused(_))));
    });
    assert_eq!(device.file_system().uuid, uuid);
}

#[test]
fn new_features_are_turned_off() {
    let table: &[(&str, &[u32], usize)] = &[
        ("ext4", &[1, 46, 5], 0),
        ("ext4", &[1, 47, 0], 2),
        ("xfs", &[5, 10], 0),
        ("xfs", &[6, 1, 0], 2),
        ("xfs", &[6, 13], 4),
        ("btrfs", &[6, 2], 0),
        ("ext4", &[], 0),
    ];
    for (fs_type, version, arguments) in table {
        assert_eq!(old_features(fs_type, version).len(), *arguments, "{fs_type} {version:?}");
    }
    assert!(version("mke2fs") >= vec![1, 40], "{:?}", version("mke2fs"));
    assert!(version("mkfs.xfs") >= vec![4], "{:?}", version("mkfs.xfs"));
    assert!(version("no-such-program").is_empty());
}

/// The free bytes and inodes of a new file system, for root.
fn free(dir: &std::path::Path) -> (u64, u64) {
    let stat = rustix::fs::statvfs(dir).unwrap();
    (stat.f_bfree * stat.f_frsize, stat.f_ffree)
}

#[test]
fn capacity_is_a_little_less_than_what_mkfs_leaves() {
    if !is_root() {
        return;
    }
    let mebibytes: [u64; 6] = [320, 600, 1500, 5000, 20_000, 200_000];
    in_namespace(|| {
        for fs_type in ["ext4", "ext2", "xfs", "btrfs"] {
            for size in mebibytes.map(|m| m << 20) {
                let file = image(size);
                let device = LoopDevice::attach(file.path());
                make(fs_type, &device.hold(), &fresh(), None).unwrap();
                let dir = tempfile::tempdir().unwrap();
                let mounted = mount_target(&device.node, fs_type, dir.path()).unwrap();
                let (bytes, inodes) = free(dir.path());
                let capacity = capacity(fs_type, size);
                let what =
                    format!("{fs_type} of {} MiB: {} of {bytes} bytes", size >> 20, capacity.bytes);
                assert!(capacity.bytes <= bytes && capacity.bytes >= bytes / 100 * 78, "{what}");
                if let Some(files) = capacity.files {
                    assert!(
                        files <= inodes && files >= inodes / 100 * 90,
                        "{what}, {files} of {inodes} files"
                    );
                }
                drop(mounted);
            }
        }
    });
}

#[test]
fn further_names_of_a_file_take_no_inodes() {
    let capacity = capacity("ext4", 1 << 30);
    let inodes = capacity.files.unwrap();
    let few = Need { bytes: 1 << 20, inodes: 1000, names: 2 * inodes };
    assert!(capacity.holds(few), "{capacity:?}");
    let many = Need { inodes: inodes + 1, names: inodes + 1, ..few };
    assert!(!capacity.has_inodes(many) && !capacity.holds(many));
    // Names take room too.
    assert!(capacity.needed(few) > capacity.needed(Need { names: 1000, ..few }));
}

#[test]
fn content_within_the_capacity_fits() {
    if !is_root() {
        return;
    }
    in_namespace(|| {
        for fs_type in ["ext4", "xfs", "btrfs"] {
            let size = 400 << 20;
            let file = image(size);
            let device = LoopDevice::attach(file.path());
            make(fs_type, &device.hold(), &fresh(), None).unwrap();
            let dir = tempfile::tempdir().unwrap();
            let _mounted = mount_target(&device.node, fs_type, dir.path()).unwrap();
            // Small files of all lengths, and one large file of the size that should still fit.
            let length = |index: u64| index * 37 % 9000;
            let files = 8000;
            let bytes: u64 = (0..files).map(length).sum();
            let capacity = capacity(fs_type, size);
            let most = (0..size / (1 << 20)).take_while(|large| {
                let (bytes, inodes) = (bytes + (large << 20), files + 1);
                capacity.holds(Need { bytes, inodes, names: inodes })
            });
            let large = most.last().unwrap_or_else(|| panic!("{fs_type}: {capacity:?}"));
            for index in 0..files {
                std::fs::write(
                    dir.path().join(format!("file{index}")),
                    vec![1; length(index) as usize],
                )
                .unwrap();
            }
            let mut rest = std::fs::File::create(dir.path().join("large")).unwrap();
            for _ in 0..large {
                std::io::Write::write_all(&mut rest, &vec![2; 1 << 20]).unwrap();
            }
            rest.sync_all().unwrap_or_else(|e| panic!("{fs_type} with {large} MiB: {e}"));
            let (left, _) = free(dir.path());
            assert!(left < size / 4, "{fs_type}: {left} left with {large} MiB");
        }
    });
}
