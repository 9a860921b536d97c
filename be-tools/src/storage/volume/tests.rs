use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::storage::mkfs;
use crate::storage::testing::{LoopDevice, image, in_namespace, is_root, mount_target, mount_with};
use crate::tool::Tool;

fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A loop device with a new file system that holds a file of this name.
fn with_file(fs_type: &str, name: &str) -> (LoopDevice, tempfile::NamedTempFile) {
    let file = image(if fs_type == "xfs" { 320 << 20 } else { 128 << 20 });
    let device = LoopDevice::attach(file.path());
    mkfs::make(fs_type, &device.hold(), &fresh(), None).unwrap();
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount_target(&device.node, fs_type, dir.path()).unwrap();
        std::fs::write(dir.path().join(name), "").unwrap();
        mounted.unmount().unwrap();
    });
    (device, file)
}

fn tmpfs(dir: &Path) -> Mounted {
    mount_with(Path::new("none"), "tmpfs", None, "", dir).unwrap()
}

fn table() -> Mounts {
    Mounts::read(&Host::local()).unwrap()
}

#[test]
fn a_file_system_hidden_under_another_mount_is_shown_as_itself() {
    if !is_root() {
        return;
    }
    for fs_type in ["ext4", "xfs", "btrfs"] {
        let (device, _file) = with_file(fs_type, "mine");
        let (over, _other) = with_file("ext4", "other");
        let file_system = device.file_system();
        in_namespace(|| {
            let (above, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let place = above.path().join("var");
            std::fs::create_dir(&place).unwrap();
            let mounted = mount_target(&device.node, fs_type, &place).unwrap();
            // One mount over it, and two over its parent directory.
            let hiding = [
                mount_target(&over.node, "ext4", &place).unwrap(),
                tmpfs(above.path()),
                tmpfs(above.path()),
            ];
            for access in [Access::Look, Access::Read] {
                assert!(file_system.mount_point(&table(), false).unwrap().is_none());
                let shown = file_system.show(&table(), access, at.path()).unwrap();
                assert!(at.path().join("mine").exists(), "{fs_type} {access:?}");
                assert!(std::fs::write(at.path().join("new"), "").is_err());
                shown.unmount().unwrap();
            }
            // The mounts that hide it are still there for other programs.
            assert!(!place.exists());
            hiding.into_iter().rev().for_each(|mount| mount.unmount().unwrap());
            assert!(place.join("mine").exists());
            let visible = file_system.mount_point(&table(), true).unwrap();
            assert_eq!(visible.map(|visible| visible.mount_point), Some(place.clone()));
            mounted.unmount().unwrap();
        });
    }
}

#[test]
fn a_second_mount_is_used_if_the_first_is_hidden() {
    if !is_root() {
        return;
    }
    let (device, _file) = with_file("ext4", "mine");
    let file_system = device.file_system();
    in_namespace(|| {
        let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
        let [first, second, at] = dirs.each_ref().map(|dir| dir.path());
        let _one = mount_target(&device.node, "ext4", first).unwrap();
        let _two = mount_target(&device.node, "ext4", second).unwrap();
        let _over = tmpfs(first);
        let visible = file_system.mount_point(&table(), true).unwrap();
        assert_eq!(visible.map(|visible| visible.mount_point).as_deref(), Some(second));
        let _shown = file_system.show(&table(), Access::Read, at).unwrap();
        assert!(at.join("mine").exists());
    });
}

#[test]
fn what_is_mounted_in_it_is_not_shown_and_nothing_can_be_written() {
    if !is_root() {
        return;
    }
    let (device, _file) = with_file("ext4", "mine");
    in_namespace(|| {
        let (place, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let _mounted = mount_target(&device.node, "ext4", place.path()).unwrap();
        std::fs::create_dir(place.path().join("var")).unwrap();
        std::fs::write(place.path().join("var/hidden"), "").unwrap();
        let _over = tmpfs(&place.path().join("var"));
        let shown = device.file_system().show(&table(), Access::Read, at.path()).unwrap();
        let hidden = at.path().join("var/hidden");
        assert!(hidden.exists() && !place.path().join("var/hidden").exists());
        let error = std::fs::write(&hidden, "x").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
        drop(shown);
        assert!(!at.path().join("var").exists());
    });
}

#[test]
fn a_device_whose_name_has_passed_to_another_is_refused() {
    if !is_root() {
        return;
    }
    let (device, _file) = with_file("ext4", "mine");
    let (other, _other) = with_file("ext4", "other");
    let mut exchanged = device.device();
    exchanged.number = other.device().number;
    let file_system = FileSystem {
        volume: Volume { device: Arc::new(exchanged.clone()), ..device.file_system().volume },
        ..device.file_system()
    };
    in_namespace(|| {
        let at = tempfile::tempdir().unwrap();
        let hold = device.hold();
        let held = file_system.show(&table(), Access::Write(&hold), at.path());
        assert!(matches!(held, Err(Error::NotHeld { .. })), "{held:?}");
        for access in [Access::Look, Access::Read, Access::Use(""), Access::Run("")] {
            let why = file_system.show(&table(), access, at.path()).unwrap_err().to_string();
            let reads = matches!(access, Access::Look | Access::Read);
            let refusal = if reads { "does not show" } else { "is not as it was in the plan" };
            assert!(why.contains(refusal), "{access:?}: {why}");
            assert!(table().at(at.path()).is_none());
        }
    });
    let refused = Hold::take(&exchanged).unwrap_err();
    assert_eq!(refused.exit_status(), 3, "{refused}");
}

#[test]
fn a_subvolume_is_shown_by_path_and_by_number() {
    if !is_root() {
        return;
    }
    let (device, _file) = with_file("btrfs", "top");
    in_namespace(|| {
        let (top, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mounted = mount_target(&device.node, "btrfs", top.path()).unwrap();
        let sub = top.path().join("@");
        Tool::new("btrfs").args(["-q", "subvolume", "create"]).arg(&sub).run().unwrap();
        std::fs::write(sub.join("mine"), "").unwrap();
        let listed = Tool::new("btrfs").args(["subvolume", "list"]).arg(top.path()).run().unwrap();
        let id = listed.split_whitespace().nth(1).unwrap().to_owned();
        Tool::new("btrfs").args(["subvolume", "set-default", &id]).arg(top.path()).run().unwrap();
        let named = |options: &str| {
            let mut file_system = device.file_system();
            file_system.volume.subvolume = Subvolume::of_line(options).unwrap();
            file_system
        };
        let shows = |options: &str, access: Access, name: &str| {
            let shown = named(options).show(&table(), access, at.path()).unwrap();
            assert!(at.path().join(name).exists(), "{options} {access:?}");
            shown.unmount().unwrap();
        };
        let by_number = format!("subvolid={id}");
        let all = [
            ("subvol=/@", "mine"),
            (by_number.as_str(), "mine"),
            ("subvolid=5", "top"),
            // Without an option it is the default subvolume.
            ("noatime", "mine"),
        ];
        let hold = device.hold();
        for access in [Access::Look, Access::Read, Access::Write(&hold), Access::Use("noatime")] {
            all.iter().for_each(|(options, name)| shows(options, access, name));
        }
        // The mounted subvolume is bound as well.
        let own = tempfile::tempdir().unwrap();
        let _sub = mount_with(&device.node, "btrfs", Some("@"), "", own.path()).unwrap();
        mounted.unmount().unwrap();
        for (options, place) in
            [(by_number.as_str(), Some(own.path())), ("subvolid=5", None), ("", Some(own.path()))]
        {
            let visible = named(options).mount_point(&table(), true).unwrap();
            assert_eq!(visible.map(|visible| visible.mount_point).as_deref(), place);
        }
        all.iter().for_each(|(options, name)| shows(options, Access::Read, name));
    });
}

#[test]
fn a_btrfs_of_two_devices_is_mounted_by_either() {
    if !is_root() {
        return;
    }
    let files = [image(128 << 20), image(128 << 20)];
    let [one, two] = files.each_ref().map(|file| LoopDevice::attach(file.path()));
    Tool::new("mkfs.btrfs").args(["-q", "-f"]).args([&one.node, &two.node]).run().unwrap();
    Tool::new("btrfs").args(["device", "scan"]).args([&one.node, &two.node]).run().unwrap();
    in_namespace(|| {
        let (place, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mounted = mount_target(&one.node, "btrfs", place.path()).unwrap();
        std::fs::write(place.path().join("mine"), "").unwrap();
        for device in [&one, &two] {
            let shown = device.file_system().show(&table(), Access::Read, at.path()).unwrap();
            assert!(at.path().join("mine").exists());
            shown.unmount().unwrap();
        }
        mounted.unmount().unwrap();
        for device in [&one, &two] {
            device
                .file_system()
                .show(&table(), Access::Look, at.path())
                .unwrap()
                .unmount()
                .unwrap();
        }
    });
    Tool::new("btrfs").args(["device", "scan", "--forget"]).arg(&one.node).run().unwrap();
}

#[test]
fn a_btrfs_is_not_taken_for_its_copy_with_the_same_uuid() {
    if !is_root() {
        return;
    }
    let (first, file) = with_file("btrfs", "mine");
    let copied = tempfile::NamedTempFile::new().unwrap();
    Tool::new("blockdev").args(["--flushbufs".as_ref(), first.node.as_os_str()]).run().unwrap();
    std::fs::copy(file.path(), copied.path()).unwrap();
    let second = LoopDevice::attach(copied.path());
    in_namespace(|| {
        let (place, at) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mounted = mount_target(&first.node, "btrfs", place.path()).unwrap();
        std::fs::write(place.path().join("only-in-the-first"), "").unwrap();
        assert!(second.file_system().mount_point(&table(), false).unwrap().is_none());
        // Kernels before 6.7 refuse to mount it beside the first.
        if let Ok(shown) = second.file_system().show(&table(), Access::Read, at.path()) {
            assert!(!at.path().join("only-in-the-first").exists());
            shown.unmount().unwrap();
        }
        mounted.unmount().unwrap();
    });
}

/// Another program reads the same device all the time, as `be list` in a loop does.
#[test]
fn a_concurrent_scan_stops_neither_mkfs_nor_a_mount_for_writing() {
    if !is_root() {
        return;
    }
    for fs_type in ["ext4", "xfs", "btrfs"] {
        let (device, _file) = with_file(fs_type, "mine");
        let ended = AtomicBool::new(false);
        let scans = std::thread::scope(|scope| {
            let scan = scope.spawn(|| {
                in_namespace(|| {
                    let at = tempfile::tempdir().unwrap();
                    let mut scans = 0;
                    while !ended.load(Ordering::Relaxed) {
                        let shown =
                            FileSystem::found(Volume::of(&Devices::default(), &device.device()))
                                .and_then(|found| found.show(&table(), Access::Look, at.path()));
                        let Ok(shown) = shown else { continue };
                        scans += 1;
                        std::thread::sleep(std::time::Duration::from_millis(30));
                        shown.unmount().unwrap();
                    }
                    scans
                })
            });
            let work = || {
                in_namespace(|| {
                    for _ in 0..6 {
                        mkfs::make(fs_type, &device.hold(), &fresh(), None)?;
                        let at = tempfile::tempdir().unwrap();
                        let hold = device.hold();
                        let access = Access::Write(&hold);
                        let mounted = device.file_system().show(&table(), access, at.path())?;
                        std::fs::write(at.path().join("new"), "").unwrap();
                        mounted.unmount()?;
                    }
                    Ok(())
                })
            };
            let worked: Result<()> = work();
            ended.store(true, Ordering::Relaxed);
            worked.unwrap_or_else(|why| panic!("{fs_type}: {why}"));
            scan.join().unwrap()
        });
        assert!(scans > 0, "{fs_type} was never read");
    }
}

#[test]
fn only_a_mount_for_commands_has_set_user_id_programs_and_device_nodes() {
    if !is_root() {
        return;
    }
    let (device, _file) = with_file("ext4", "mine");
    let (file_system, hold) = (device.file_system(), device.hold());
    in_namespace(|| {
        let at = tempfile::tempdir().unwrap();
        for (access, is_guarded) in [
            (Access::Look, true),
            (Access::Read, true),
            (Access::Write(&hold), true),
            (Access::Use("suid,dev"), true),
            (Access::Run("noatime"), false),
            (Access::Run("nosuid,nodev"), true),
        ] {
            let shown = file_system.show(&table(), access, at.path()).unwrap();
            let options = table().at(at.path()).unwrap().options.clone();
            for option in ["nosuid", "nodev"] {
                assert_eq!(options.split(',').any(|o| o == option), is_guarded, "{options}");
            }
            shown.unmount().unwrap();
            // A copy of a mount that exists has the same options.
            let place = MountPlace::open(at.path()).unwrap();
            let shown = file_system.show_on(&table(), access, &place).unwrap();
            let again = table().at(at.path()).unwrap().options.clone();
            assert_eq!(again, options, "{access:?}");
            shown.unmount().unwrap();
        }
        // One that another program made is bound with them.
        let own = tempfile::tempdir().unwrap();
        let mounted = mount_with(&device.node, "ext4", None, "noexec", own.path()).unwrap();
        let shown = file_system.show(&table(), Access::Read, at.path()).unwrap();
        let options = table().at(at.path()).unwrap().options.clone();
        assert_eq!(options, "ro,nosuid,nodev,noatime");
        shown.unmount().unwrap();
        mounted.unmount().unwrap();
    });
}

/// A user who owns a directory on the way to a mount point exchanges it for a symlink.
#[test]
fn a_mount_is_attached_to_the_directory_that_was_opened() {
    if !is_root() {
        return;
    }
    let (device, _file) = with_file("ext4", "mine");
    let file_system = device.file_system();
    for access in [Access::Read, Access::Use("")] {
        in_namespace(|| {
            let (above, victim) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let home = above.path().join("home");
            std::fs::create_dir_all(home.join("deep")).unwrap();
            std::fs::create_dir(victim.path().join("deep")).unwrap();
            let other = tmpfs(&victim.path().join("deep"));
            let place = MountPlace::open(&home.join("deep")).unwrap();
            std::fs::rename(&home, above.path().join("moved")).unwrap();
            std::os::unix::fs::symlink(victim.path(), &home).unwrap();
            let shown = file_system.show_on(&table(), access, &place).unwrap();
            assert!(above.path().join("moved/deep/mine").exists(), "{access:?}");
            assert!(!victim.path().join("deep/mine").exists());
            // What is at its path now is not unmounted in its place.
            drop(shown);
            assert!(!above.path().join("moved/deep/mine").exists());
            assert!(table().at(&victim.path().join("deep")).is_some());
            other.unmount().unwrap();
        });
    }
}
