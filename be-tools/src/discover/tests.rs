use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::*;
use crate::environment::BootEnvironment;
use crate::environment::sentences;
use crate::environment::{DESCRIPTOR_PATH, Descriptor, State};
use crate::error::{Error, Refusal};
use crate::storage::testing::{
    LoopDevice, RELEASE, RootFileSystem, debian_root, forget_btrfs, image, in_namespace, is_root,
    mount_target, mount_with,
};
use crate::tool::Tool;

/// What is found on these devices alone. The machine has others.
fn found_on(nodes: &[&Path]) -> Inventory {
    let devices = Devices::scan(&Host::local()).unwrap();
    look_at(devices.iter().filter(|d| nodes.contains(&d.node.as_path())).cloned().collect())
}

fn describe(dir: &Path, name: &str, state: State) {
    let mut descriptor = Descriptor::new(name.parse().unwrap(), None);
    descriptor.state = state;
    if state == State::Complete {
        descriptor.operation = None;
    }
    std::fs::create_dir_all(dir.join("etc/lifeboat")).unwrap();
    std::fs::write(dir.join(DESCRIPTOR_PATH), descriptor.render().unwrap()).unwrap();
}

fn managed(fs_type: &str, name: &str) -> RootFileSystem {
    RootFileSystem::make(fs_type, |dir, uuid| {
        debian_root(dir, &format!("UUID={uuid} / {fs_type} defaults 0 1\n"), uuid);
        describe(dir, name, State::Complete);
    })
}

#[test]
fn roots_on_every_type_are_found_and_are_healthy() {
    if !is_root() {
        return;
    }
    for fs_type in ["ext4", "xfs", "ext2"] {
        let root = RootFileSystem::debian(fs_type);
        let inventory = found_on(&[&root.device.node]);
        let [found] = &inventory.environments[..] else { panic!("{inventory:?}") };
        assert_eq!(found.problems, [], "{fs_type}");
        assert_eq!(found.os.pretty_name, "Debian GNU/Linux 12 (bookworm)");
        assert_eq!((found.os.version_id.as_str(), found.kernel.as_deref()), ("12", Some(RELEASE)));
        assert_eq!((&found.root.uuid, found.root.fs_type.as_str()), (&root.uuid, fs_type));
        let name = root.device.node.file_name().unwrap().to_str().unwrap();
        assert_eq!(found.reference, format!("@{name}"));
        assert!(!found.running && !found.is_managed() && found.used.unwrap() > 0);
        assert_eq!(found.own_devices(), [&root.device.node]);
        assert_eq!(inventory.find(&found.reference).unwrap().root, found.root);
        assert_eq!(inventory.find(&format!("@UUID={}", root.uuid)).unwrap().root, found.root);
        assert!(matches!(inventory.find("@vdz9"), Err(Error::Usage(_))));
    }
}

#[test]
fn each_subvolume_with_a_root_is_a_be() {
    if !is_root() {
        return;
    }
    let root = RootFileSystem::make("btrfs", |dir, uuid| {
        let make = |path: &str| {
            Tool::new("btrfs")
                .args(["-q", "subvolume", "create"])
                .arg(dir.join(path))
                .run()
                .unwrap();
        };
        for path in ["@", "@home", "snapshots"] {
            make(path);
        }
        let fstab = format!(
            "UUID={uuid} / btrfs subvol=@ 0 0\nUUID={uuid} /home btrfs subvol=/@home 0 0\n"
        );
        debian_root(&dir.join("@"), &fstab, uuid);
        make("snapshots/7");
        debian_root(&dir.join("snapshots/7"), &fstab, uuid);
        describe(&dir.join("snapshots/7"), "before", State::Complete);
    });
    let inventory = found_on(&[&root.device.node]);
    let mut places: Vec<_> =
        inventory.environments.iter().map(|e| e.root.subvolume.as_deref().unwrap()).collect();
    places.sort();
    assert_eq!(places, ["@", "snapshots/7"]);
    let node = root.device.node.display();
    assert_eq!(inventory.find(&format!("@{node}:@")).unwrap().root.subvolume.as_deref(), Some("@"));
    assert_eq!(inventory.find("before").unwrap().root.subvolume.as_deref(), Some("snapshots/7"));
    assert!(matches!(
        inventory.find(&format!("@{node}")),
        Err(Error::Refused(Refusal::Ambiguous { .. }))
    ));
    // Both are on one device: deleting one must not erase the other.
    assert!(
        inventory
            .environments
            .iter()
            .all(|e| e.file_systems.iter().all(|f| f.mountpoint != Path::new("/home") || f.shared))
    );
}

#[test]
fn a_separate_boot_is_read() {
    if !is_root() {
        return;
    }
    let boot = RootFileSystem::make("ext4", |_, _| {});
    let root = RootFileSystem::make("ext4", |dir, uuid| {
        let fstab = format!(
            "UUID={uuid} / ext4 defaults 0 1\nUUID={} /boot ext4 defaults 0 2\n",
            boot.uuid
        );
        debian_root(dir, &fstab, uuid);
        let other = tempfile::tempdir().unwrap();
        let mounted = mount_target(&boot.device.node, "ext4", other.path()).unwrap();
        Tool::new("cp").arg("-a").arg(dir.join("boot/.")).arg(other.path()).run().unwrap();
        // In a separate /boot, paths of GRUB begin at its root directory.
        let cfg = std::fs::read_to_string(other.path().join("grub/grub.cfg")).unwrap();
        std::fs::write(other.path().join("grub/grub.cfg"), cfg.replace(" /boot/", " /")).unwrap();
        mounted.unmount().unwrap();
        std::fs::remove_dir_all(dir.join("boot")).unwrap();
        std::fs::create_dir(dir.join("boot")).unwrap();
    });
    let inventory = found_on(&[&root.device.node, &boot.device.node]);
    let [found] = &inventory.environments[..] else { panic!("{inventory:?}") };
    assert_eq!(found.problems, []);
    assert_eq!(found.kernel.as_deref(), Some(RELEASE));
    assert_eq!(found.own_devices(), [&root.device.node, &boot.device.node]);
    assert_eq!(inventory.owner_of(&boot.device.node).unwrap().root, found.root);
    // A damaged /boot is a problem that names it.
    Tool::new("dd")
        .args(["if=/dev/urandom", "bs=1024", "seek=2", "count=64", "conv=notrunc", "status=none"])
        .arg(format!("of={}", boot.device.node.display()))
        .run()
        .unwrap();
    let damaged = found_on(&[&root.device.node, &boot.device.node]);
    let problems = sentences(&damaged.environments[0].problems).join("; ");
    assert!(problems.contains("/boot on ") && problems.contains("cannot be mounted"), "{problems}");
    // Without the device of its /boot the BE is still listed, with the reason why it would not
    // boot.
    let alone = found_on(&[&root.device.node]);
    let problems = sentences(&alone.environments[0].problems).join("; ");
    assert!(problems.contains(&format!("UUID={} for /boot", boot.uuid)), "{problems}");
    assert!(problems.contains("no kernel"), "{problems}");
}

#[test]
fn names_ignore_case_and_are_told_apart_by_device() {
    if !is_root() {
        return;
    }
    let (a, b, c) =
        (managed("ext4", "Nightly"), managed("ext4", "nightly"), managed("ext4", "other"));
    let inventory = found_on(&[&a.device.node, &b.device.node, &c.device.node]);
    assert_eq!(inventory.find("OTHER").unwrap().root.device, c.device.node);
    match inventory.find("nightly") {
        Err(Error::Refused(Refusal::Ambiguous { candidates, .. })) => {
            assert_eq!(candidates.len(), 2);
            for candidate in candidates {
                assert_eq!(inventory.find(&candidate).unwrap().reference, candidate);
            }
        }
        other => panic!("{other:?}"),
    }
    let message = inventory.find("unknown").unwrap_err().to_string();
    assert!(message.contains("other") && message.contains("Nightly@"), "{message}");
    assert!(matches!(
        inventory.refuse_taken(&"Other".parse().unwrap()),
        Err(Error::Refused(Refusal::NameTaken { .. }))
    ));
    inventory.refuse_taken(&"free".parse().unwrap()).unwrap();
}

#[test]
fn a_device_that_two_bes_use_is_shared() {
    if !is_root() {
        return;
    }
    let home = RootFileSystem::make("ext4", |_, _| {});
    let with_home = |name: &str| {
        RootFileSystem::make("ext4", |dir, uuid| {
            let fstab = format!(
                "UUID={uuid} / ext4 defaults 0 1\nUUID={} /home ext4 defaults 0 2\n",
                home.uuid
            );
            debian_root(dir, &fstab, uuid);
            describe(dir, name, State::Complete);
        })
    };
    let (a, b) = (with_home("a"), with_home("b"));
    // A copy that was interrupted before localize: its fstab still names the source's devices.
    let c = RootFileSystem::make("ext4", |dir, uuid| {
        debian_root(dir, &format!("UUID={} / ext4 defaults 0 1\n", a.uuid), uuid);
        describe(dir, "c", State::Incomplete);
    });
    let nodes = [&a, &b, &c, &home].map(|root| root.device.node.as_path());
    let inventory = found_on(&nodes);
    let own = |name: &str| inventory.find(name).unwrap().own_devices();
    assert_eq!(own("a"), [&a.device.node]);
    assert_eq!(own("b"), [&b.device.node]);
    assert_eq!(own("c"), [&c.device.node]);
    assert_eq!(inventory.owner_of(&a.device.node).unwrap().name(), "a");
    let problems = sentences(&inventory.find("c").unwrap().problems).join("; ");
    assert!(problems.contains("create was interrupted"), "{problems}");
    assert!(problems.contains("not its own"), "{problems}");
}

#[test]
fn a_mounted_root_is_read_from_its_mount() {
    if !is_root() {
        return;
    }
    let root = RootFileSystem::debian("ext4");
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let _mounted = mount_target(&root.device.node, "ext4", dir.path()).unwrap();
        let inventory = found_on(&[&root.device.node]);
        let [found] = &inventory.environments[..] else { panic!("{inventory:?}") };
        assert_eq!(found.mounted_at, [dir.path()]);
        assert!(!found.running && found.problems.is_empty());
    });
}

#[test]
fn a_btrfs_in_use_shows_all_its_subvolumes() {
    if !is_root() {
        return;
    }
    let root = RootFileSystem::make("btrfs", |dir, uuid| {
        for name in ["@", "@old"] {
            Tool::new("btrfs")
                .args(["-q", "subvolume", "create"])
                .arg(dir.join(name))
                .run()
                .unwrap();
            debian_root(&dir.join(name), &format!("UUID={uuid} / btrfs subvol={name} 0 0\n"), uuid);
        }
    });
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let _mounted = mount_with(&root.device.node, "btrfs", Some("@"), "", dir.path()).unwrap();
        let inventory = found_on(&[&root.device.node]);
        let place = |e: &BootEnvironment| (e.root.subvolume.clone().unwrap(), e.mounted_at.len());
        let mut places: Vec<_> = inventory.environments.iter().map(place).collect();
        places.sort();
        assert_eq!(places, [("@".into(), 1), ("@old".into(), 0)], "{:?}", inventory.warnings);
        std::fs::write(dir.path().join("writable"), "").unwrap();
    });
}

#[test]
fn discovery_changes_no_byte_of_a_device() {
    if !is_root() {
        return;
    }
    let sum = |root: &RootFileSystem| Tool::new("sha256sum").arg(&root.device.node).run().unwrap();
    for fs_type in ["ext4", "xfs", "btrfs"] {
        let root = RootFileSystem::debian(fs_type);
        let before = sum(&root);
        assert_eq!(found_on(&[&root.device.node]).environments.len(), 1);
        assert_eq!(before, sum(&root), "{fs_type}");
    }
}

#[test]
fn what_is_at_rest_is_not_mounted_again() {
    if !is_root() {
        return;
    }
    let run = tempfile::tempdir().unwrap();
    let host = Host { run: run.path().into(), ..Host::local() };
    let look = |root: &RootFileSystem| {
        let devices = Devices::scan(&Host::local()).unwrap();
        look_on(&host, devices.iter().filter(|d| d.node == root.device.node).cloned().collect())
    };
    let in_use = |root: &RootFileSystem| {
        // What a mount in another namespace does: a second one fails.
        std::fs::File::options()
            .read(true)
            .custom_flags(nix::libc::O_EXCL)
            .open(&root.device.node)
            .unwrap()
    };
    let [root, other] = [managed("ext4", "first"), managed("xfs", "second")];
    assert_eq!(look(&root).environments[0].name(), "first");
    let used = in_use(&root);
    let found = look(&root);
    assert_eq!((found.environments[0].name(), &found.warnings[..]), ("first", &[][..]));
    drop(used);
    // A mount for writing ends that, whatever it did.
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount_target(&root.device.node, "ext4", dir.path()).unwrap();
        describe(dir.path(), "renamed", State::Complete);
        mounted.unmount().unwrap();
    });
    assert_eq!(look(&root).environments[0].name(), "renamed");
    // The super block of an XFS does not say whether it is mounted.
    assert_eq!(look(&other).environments[0].name(), "second");
    let used = in_use(&other);
    assert!(look(&other).environments.is_empty());
    drop(used);
    // And a file of another program, or a broken one, is none.
    std::fs::write(run.path().join("lifeboat/found.json"), "{\"version\":\"0\"").unwrap();
    assert_eq!(look(&root).environments[0].name(), "renamed");
}

#[test]
fn what_cannot_be_mounted_is_a_warning() {
    if !is_root() {
        return;
    }
    let file = image(64 << 20);
    Tool::new("mke2fs").args(["-qFt", "ext4"]).arg(file.path()).run().unwrap();
    // Past the super block: the group descriptors.
    Tool::new("dd")
        .args(["if=/dev/urandom", "bs=1024", "seek=2", "count=64", "conv=notrunc", "status=none"])
        .arg(format!("of={}", file.path().display()))
        .run()
        .unwrap();
    let device = LoopDevice::attach(file.path());
    let inventory = found_on(&[&device.node]);
    assert!(inventory.environments.is_empty());
    assert!(
        inventory.warnings[0].contains(device.node.to_str().unwrap()),
        "{:?}",
        inventory.warnings
    );
}

#[test]
fn the_running_system_is_found() {
    if !is_root() || !Path::new("/etc/os-release").exists() {
        return;
    }
    let mounts = Mounts::read(&Host::local()).unwrap();
    let root = mounts.at(Path::new("/")).unwrap();
    let devices = Devices::scan(&Host::local()).unwrap();
    let Some(device) = devices.by_number(root.number).filter(|d| d.super_block().is_some()) else {
        eprintln!("skipped: the root file system is not on a block device that can be read");
        return;
    };
    let inventory = found_on(&[&device.node]);
    let running = inventory.running().unwrap_or_else(|| panic!("{inventory:?}"));
    assert!(running.mounted_at.contains(&"/".into()));
    assert_eq!(inventory.find_or_running(None).unwrap().root, running.root);
}

fn subvolume(dir: &Path, arguments: &[&str]) {
    let script = "cd \"$1\" && shift && exec btrfs -q subvolume \"$@\"";
    Tool::new("sh").args(["-c", script, "sh"]).arg(dir).args(arguments).run().unwrap();
}

/// As snapper(8) leaves it: read-only snapshots below .snapshots.
#[test]
fn a_snapshot_of_a_be_is_no_be_and_no_user_of_its_device() {
    if !is_root() {
        return;
    }
    let root = RootFileSystem::make("btrfs", |dir, uuid| {
        debian_root(dir, &format!("UUID={uuid} / btrfs defaults 0 0\n"), uuid);
        describe(dir, "tumbleweed", State::Complete);
        subvolume(dir, &["create", ".snapshots"]);
        std::fs::create_dir(dir.join(".snapshots/1")).unwrap();
        subvolume(dir, &["snapshot", "-r", ".", ".snapshots/1/snapshot"]);
        std::fs::create_dir(dir.join(".snapshots/2")).unwrap();
        // One that can be written to is another BE with the same id.
        subvolume(dir, &["snapshot", ".", ".snapshots/2/snapshot"]);
    });
    let inventory = found_on(&[&root.device.node]);
    let places: Vec<_> =
        inventory.environments.iter().map(|e| e.root.subvolume.as_deref()).collect();
    assert_eq!(places, [None, Some(".snapshots/2/snapshot")], "{:?}", inventory.warnings);
    assert!(inventory.twin_of(&inventory.environments[0]).is_some());
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount_target(&root.device.node, "btrfs", dir.path()).unwrap();
        subvolume(dir.path(), &["delete", ".snapshots/2/snapshot"]);
        mounted.unmount().unwrap();
    });
    let inventory = found_on(&[&root.device.node]);
    let found = inventory.find("tumbleweed").unwrap();
    assert_eq!(found.reference, "tumbleweed");
    assert!(inventory.twin_of(found).is_none());
    assert_eq!(inventory.users_of(&root.device.node).len(), 1);
    assert_eq!(found.problems, []);
}

#[test]
fn of_systems_that_are_read_only_the_default_one_is_the_be() {
    if !is_root() {
        return;
    }
    let root = RootFileSystem::make("btrfs", |dir, uuid| {
        subvolume(dir, &["create", "first"]);
        debian_root(&dir.join("first"), &format!("UUID={uuid} / btrfs defaults 0 0\n"), uuid);
        describe(&dir.join("first"), "micro", State::Complete);
        for name in ["a", "b", "c"] {
            subvolume(dir, &["snapshot", "-r", "first", name]);
        }
        subvolume(dir, &["delete", "first"]);
        subvolume(dir, &["set-default", "b"]);
    });
    let inventory = found_on(&[&root.device.node]);
    let [found] = &inventory.environments[..] else { panic!("{:?}", inventory.environments) };
    assert_eq!(found.root.subvolume.as_deref(), Some("b"));
}

#[test]
fn of_too_many_systems_the_default_and_the_writable_ones_are_read_with_a_warning() {
    if !is_root() {
        return;
    }
    let root = RootFileSystem::make("btrfs", |dir, _| {
        subvolume(dir, &["create", "writable"]);
        for directory in ["etc", "usr/lib"] {
            std::fs::create_dir_all(dir.join("writable").join(directory)).unwrap();
        }
        std::fs::write(dir.join("writable/etc/os-release"), "ID=suse\n").unwrap();
        for number in 0..80 {
            subvolume(dir, &["snapshot", "-r", "writable", &format!("{number}")]);
        }
        subvolume(dir, &["set-default", "79"]);
    });
    let inventory = found_on(&[&root.device.node]);
    let places: Vec<_> =
        inventory.environments.iter().map(|e| e.root.subvolume.as_deref().unwrap()).collect();
    assert_eq!(places.len(), 64);
    assert_eq!(places[..2], ["79", "writable"]);
    let [warning] = &inventory.warnings[..] else { panic!("{:?}", inventory.warnings) };
    assert!(warning.starts_with("17 more systems on "), "{warning}");
}

#[test]
fn two_roots_with_the_same_uuid_are_a_problem_of_both() {
    if !is_root() {
        return;
    }
    let root = managed("ext4", "original");
    let copy = tempfile::NamedTempFile::new().unwrap();
    Tool::new("cp")
        .arg("--sparse=always")
        .args([root.device.node.as_path(), copy.path()])
        .run()
        .unwrap();
    let other = LoopDevice::attach(copy.path());
    let inventory = found_on(&[&root.device.node, &other.node]);
    let [one, two] = &inventory.environments[..] else { panic!("{inventory:?}") };
    for (environment, twin) in [(one, two), (two, one)] {
        let [problem] = &environment.problems[..] else { panic!("{:?}", environment.problems) };
        assert_eq!(problem.code, "ambiguous-root");
        let expected = format!("same UUID as {}: which one", twin.root.device.display());
        assert!(problem.text.contains(&expected), "{problem}");
        // The line of the root is of this root.
        assert_eq!(environment.file_systems[0].device.as_ref(), Some(&environment.root.device));
    }
    let alone = found_on(&[&root.device.node]);
    assert_eq!(alone.environments[0].problems, []);
}

#[test]
fn symlinks_of_udev_in_a_fstab_need_no_udev() {
    if !is_root() {
        return;
    }
    let home = RootFileSystem::make("ext4", |_, _| {});
    let root = RootFileSystem::make("ext4", |dir, uuid| {
        let fstab = format!(
            "/dev/disk/by-uuid/{uuid} / ext4 defaults 0 1\n\
            /dev/disk/by-uuid/{} /home ext4 defaults 0 2\n",
            home.uuid
        );
        debian_root(dir, &fstab, uuid);
    });
    // This machine has no udev that could have made them.
    assert!(!Path::new(&format!("/dev/disk/by-uuid/{}", home.uuid)).exists());
    let inventory = found_on(&[&root.device.node, &home.device.node]);
    let [found] = &inventory.environments[..] else { panic!("{inventory:?}") };
    assert_eq!(found.problems, []);
    assert_eq!(found.own_devices(), [&root.device.node, &home.device.node]);
}

#[test]
fn a_missing_disk_of_an_array_is_a_problem() {
    if !is_root() {
        return;
    }
    let files = [image(256 << 20), image(256 << 20)];
    let [one, two] = files.each_ref().map(|file| LoopDevice::attach(file.path()));
    let nodes = [&one.node, &two.node];
    Tool::new("mkfs.btrfs")
        .args(["-q", "-f", "-d", "raid1", "-m", "raid1"])
        .args(nodes)
        .run()
        .unwrap();
    let uuid = one.file_system().uuid;
    in_namespace(|| {
        Tool::new("btrfs").args(["device", "scan"]).args(nodes).run().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount_target(&one.node, "btrfs", dir.path()).unwrap();
        debian_root(dir.path(), &format!("UUID={uuid} / btrfs defaults 0 0\n"), &uuid);
        mounted.unmount().unwrap();
    });
    let whole = found_on(&[&one.node, &two.node]);
    let [found] = &whole.environments[..] else { panic!("{whole:?}") };
    assert_eq!(found.problems, []);
    forget_btrfs(&two.node);
    drop(two);
    let degraded = found_on(&[&one.node]);
    let [found] = &degraded.environments[..] else { panic!("{:?}", degraded.warnings) };
    let codes: Vec<_> = found.problems.iter().map(|p| p.code.as_ref()).collect();
    assert_eq!(codes, ["disk-missing"]);
    forget_btrfs(&one.node);
}
