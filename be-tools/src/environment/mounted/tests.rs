use super::*;
use crate::environment::{FileSystemUse, MadeDevice};
use crate::error::Refusal;
use crate::storage::device::{BlockDevice, Devices};
use crate::storage::device_number::DeviceNumber;
use crate::storage::mounts::unmount_all;
use crate::storage::probe::{Kind, SuperBlock};
use crate::storage::testing::{
    LoopDevice, RootFileSystem, debian_root, image, in_namespace, is_root,
};
use crate::tool::Tool;

/// A BE with /home and /home/deep on other devices, its inventory, and the devices.
fn split() -> (Inventory, Vec<RootFileSystem>) {
    let home =
        RootFileSystem::make("ext4", |dir, _| std::fs::create_dir(dir.join("deep")).unwrap());
    let deep = RootFileSystem::make("xfs", |dir, _| std::fs::write(dir.join("here"), "").unwrap());
    let root = RootFileSystem::make("ext4", |dir, uuid| {
        // In the wrong order, and with lines that are not mounted.
        let fstab = format!(
            "UUID={} /home/deep xfs noatime,nofail 0 0\nUUID={} /home ext4 defaults 0 \
            2\nUUID={uuid} / ext4 errors=remount-ro 0 1\n\
             UUID={} /mnt ext4 noauto 0 0\ntmpfs /tmp tmpfs defaults 0 0\nUUID=gone none swap sw \
             0 0\nUUID=gone /gone ext4 nofail 0 0\n",
            deep.uuid, home.uuid, home.uuid
        );
        debian_root(dir, &fstab, uuid);
        std::fs::create_dir(dir.join("mnt")).unwrap();
    });
    let roots = vec![root, home, deep];
    (inventory(&roots), roots)
}

fn inventory(roots: &[RootFileSystem]) -> Inventory {
    let devices = Devices::scan(&Host::local()).unwrap();
    let ours = |d: &&BlockDevice| roots.iter().any(|r| r.device.node == d.node);
    crate::discover::look_at(devices.iter().filter(ours).cloned().collect())
}

fn places(dir: &Path) -> Vec<String> {
    let table = Mounts::read(&Host::local()).unwrap();
    let mut places: Vec<_> = table
        .under(dir)
        .map(|m| m.mount_point.strip_prefix(dir).unwrap().display().to_string())
        .collect();
    places.sort();
    places
}

#[test]
fn a_whole_be_is_mounted_in_order_and_unmounted() {
    if !is_root() {
        return;
    }
    let (inventory, roots) = split();
    in_namespace(|| {
        let environment = &inventory.environments[0];
        let dir = tempfile::tempdir().unwrap();
        let mounted = MountedEnvironment::mount(
            &inventory,
            environment,
            dir.path(),
            MountMode::ReadWrite,
            &["/home".into()],
        )
        .unwrap();
        assert_eq!(places(dir.path()), ["", "home", "home/deep"]);
        // Only what was named is written to on another disk.
        let [deep] = mounted.warnings() else { panic!("{:?}", mounted.warnings()) };
        assert!(deep.contains("/home/deep is mounted read-only"), "{deep}");
        assert!(mounted.root().join("home/deep/here").exists());
        std::fs::write(mounted.root().join("home/new"), "x").unwrap();
        // Mounted again for reading, it shows the same and cannot be written to.
        let again = MountedEnvironment::mount_system(&Host::local(), &inventory, environment);
        let again = again.unwrap();
        assert!(std::fs::write(again.root().join("etc/new"), "x").is_err());
        let directory = again.root().to_owned();
        drop(again);
        assert!(!directory.exists());
        mounted.unmount().unwrap();
        assert!(places(dir.path()).is_empty());
        let before: Vec<_> = roots.iter().map(sum).collect();
        let read_only = MountedEnvironment::mount(
            &inventory,
            environment,
            dir.path(),
            MountMode::ReadOnly,
            &[],
        )
        .unwrap();
        assert!(read_only.root().join("home/new").exists());
        assert!(std::fs::write(read_only.root().join("home/other"), "x").is_err());
        drop(read_only);
        assert_eq!(before, roots.iter().map(sum).collect::<Vec<_>>());
        let root = MountedEnvironment::mount_root(
            &Host::local(),
            &inventory,
            environment,
            MountMode::ReadOnly,
        )
        .unwrap();
        assert_eq!(places(root.root()), [""]);
    });
}

fn sum(root: &RootFileSystem) -> String {
    Tool::new("sha256sum").arg(&root.device.node).run().unwrap()
}

#[test]
fn a_persistent_mount_is_kept_until_unmount_all() {
    if !is_root() {
        return;
    }
    let (inventory, _roots) = split();
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let environment = &inventory.environments[0];
        MountedEnvironment::mount(&inventory, environment, dir.path(), MountMode::ReadWrite, &[])
            .unwrap()
            .into_persistent();
        assert_eq!(places(dir.path()).len(), 3);
        let busy = std::fs::File::open(dir.path().join("home/deep/here")).unwrap();
        let message = unmount_all(&Host::local(), dir.path()).unwrap_err().to_string();
        assert!(message.contains("home/deep is in use"), "{message}");
        drop(busy);
        unmount_all(&Host::local(), dir.path()).unwrap();
        assert!(places(dir.path()).is_empty());
    });
}

#[test]
fn a_subvolume_is_mounted_as_the_root() {
    if !is_root() {
        return;
    }
    let root = RootFileSystem::make("btrfs", |dir, uuid| {
        Tool::new("btrfs").args(["-q", "subvolume", "create"]).arg(dir.join("@")).run().unwrap();
        Tool::new("btrfs")
            .args(["-q", "subvolume", "create"])
            .arg(dir.join("@home"))
            .run()
            .unwrap();
        std::fs::write(dir.join("@home/mine"), "").unwrap();
        let fstab = format!(
            "UUID={uuid} / btrfs subvol=@ 0 0\nUUID={uuid} /home btrfs subvol=/@home 0 0\n"
        );
        debian_root(&dir.join("@"), &fstab, uuid);
    });
    let inventory = inventory(std::slice::from_ref(&root));
    in_namespace(|| {
        for mode in [MountMode::ReadOnly, MountMode::ReadWrite] {
            let dir = tempfile::tempdir().unwrap();
            let mounted = MountedEnvironment::mount(
                &inventory,
                &inventory.environments[0],
                dir.path(),
                mode,
                &[],
            )
            .unwrap();
            assert!(dir.path().join("etc/fstab").exists() && dir.path().join("home/mine").exists());
            mounted.unmount().unwrap();
        }
    });
}

#[test]
fn a_symlink_in_the_be_does_not_redirect_a_mount() {
    if !is_root() {
        return;
    }
    let victim = tempfile::tempdir().unwrap();
    let home =
        RootFileSystem::make("ext4", |dir, _| std::fs::write(dir.join("planted"), "").unwrap());
    let root = RootFileSystem::make("ext4", |dir, uuid| {
        debian_root(
            dir,
            &format!(
                "UUID={uuid} / ext4 defaults 0 1\nUUID={} /home ext4 defaults 0 2\n",
                home.uuid
            ),
            uuid,
        );
        std::fs::remove_dir(dir.join("home")).unwrap();
        std::os::unix::fs::symlink(victim.path(), dir.join("home")).unwrap();
    });
    let inventory = inventory(&[root, home]);
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mounted = MountedEnvironment::mount(
            &inventory,
            &inventory.environments[0],
            dir.path(),
            MountMode::ReadOnly,
            &[],
        );
        assert!(mounted.is_err());
        assert!(!victim.path().join("planted").exists());
        assert!(places(dir.path()).is_empty());
    });
}

#[test]
fn boot_is_mounted_even_if_its_fstab_mounts_it_on_request() {
    if !is_root() {
        return;
    }
    let boot =
        RootFileSystem::make("ext4", |dir, _| std::fs::write(dir.join("kernel"), "").unwrap());
    let root = RootFileSystem::make("ext4", |dir, uuid| {
        let fstab = format!(
            "UUID={uuid} / ext4 defaults 0 1\nUUID={0} /boot ext4 noauto,noatime 1 2\n\
            UUID={0} /mnt ext4 noauto 0 0\n",
            boot.uuid
        );
        debian_root(dir, &fstab, uuid);
    });
    let roots = [root, boot];
    let inventory = inventory(&roots);
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let environment = &inventory.environments[0];
        for mode in [MountMode::ReadOnly, MountMode::ReadWrite, MountMode::ForCommands] {
            let mounted =
                MountedEnvironment::mount(&inventory, environment, dir.path(), mode, &[]).unwrap();
            assert_eq!(places(dir.path()), ["", "boot"]);
            assert!(dir.path().join("boot/kernel").exists());
            mounted.unmount().unwrap();
        }
    });
}

/// A BE whose fstab has these lines below its root, and its inventory.
fn with_lines(lines: &str) -> (Inventory, RootFileSystem) {
    let root = RootFileSystem::make("ext4", |dir, uuid| {
        debian_root(dir, &format!("UUID={uuid} / ext4 defaults 0 1\n{lines}"), uuid);
    });
    (inventory(std::slice::from_ref(&root)), root)
}

#[test]
fn what_a_be_does_not_need_and_is_missing_is_left_out_with_a_warning() {
    if !is_root() {
        return;
    }
    let lines = "UUID=7A1B-22C3 /boot/efi vfat umask=0077 0 1\nLABEL=gone /srv xfs defaults 0 2\n\
        UUID=gone /mnt ext4 nofail 0 0\n";
    let (inventory, _root) = with_lines(lines);
    in_namespace(|| {
        for mode in [MountMode::ReadOnly, MountMode::ForCommands] {
            let dir = tempfile::tempdir().unwrap();
            let mounted = MountedEnvironment::mount(
                &inventory,
                &inventory.environments[0],
                dir.path(),
                mode,
                &[],
            )
            .unwrap();
            let [srv, esp] = mounted.warnings() else { panic!("{:?}", mounted.warnings()) };
            assert!(esp.contains("/boot/efi") && esp.contains("7A1B-22C3"), "{esp}");
            assert!(srv.contains("/srv is left out"), "{srv}");
            assert_eq!(places(dir.path()), [""]);
        }
    });
    for needed in ["/usr", "/boot"] {
        let (inventory, _root) = with_lines(&format!("UUID=gone {needed} ext4 defaults 0 2\n"));
        let error = refused(&inventory, MountMode::ReadOnly);
        assert!(error.to_string().contains("no such device"), "{error}");
    }
    let (inventory, _root) = with_lines("UUID=gone /var ext4 defaults 0 2\n");
    let error =
        refuse_for_commands(&inventory, &inventory.environments[0], &[], false).unwrap_err();
    assert!(error.to_string().contains("/var is on"), "{error}");
}

/// Why the first BE is not mounted. Nothing of it is mounted then.
fn refused(inventory: &Inventory, mode: MountMode) -> Error {
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            MountedEnvironment::mount(inventory, &inventory.environments[0], dir.path(), mode, &[]);
        assert!(places(dir.path()).is_empty());
        mounted.unwrap_err()
    })
}

#[test]
fn a_uuid_that_two_devices_have_names_neither() {
    if !is_root() {
        return;
    }
    let home = RootFileSystem::make("ext4", |_, _| {});
    let lines = format!(
        "UUID={0} /home ext4 defaults 0 2\n/dev/disk/by-uuid/{0} /srv ext4 nofail 0 0\n",
        home.uuid
    );
    let root = RootFileSystem::make("ext4", |dir, uuid| {
        debian_root(dir, &format!("UUID={uuid} / ext4 defaults 0 1\n{lines}"), uuid);
    });
    let copy = tempfile::NamedTempFile::new().unwrap();
    Tool::new("cp")
        .arg("--sparse=always")
        .args([home.device.node.as_path(), copy.path()])
        .run()
        .unwrap();
    let copied = LoopDevice::attach(copy.path());
    let nodes = [&root.device.node, &home.device.node, &copied.node];
    let devices = Devices::scan(&Host::local()).unwrap();
    let inventory = crate::discover::look_at(
        devices.iter().filter(|d| nodes.contains(&&d.node)).cloned().collect(),
    );
    let before = [sum(&root), sum(&home)];
    for mode in [MountMode::ReadOnly, MountMode::ReadWrite, MountMode::ForCommands] {
        let error = refused(&inventory, mode);
        assert_eq!(error.exit_status(), 3, "{error}");
        for node in &nodes[1..] {
            assert!(error.to_string().contains(node.to_str().unwrap()), "{error}");
        }
    }
    assert_eq!(before, [sum(&root), sum(&home)]);
    let environment = &inventory.environments[0];
    let codes: Vec<_> = environment.problems.iter().map(|p| p.code.as_ref()).collect();
    assert_eq!(codes, ["fstab-ambiguous"]);
    // Neither is its own, and neither is free for another BE.
    assert_eq!(environment.own_devices(), [&root.device.node]);
    for node in nodes {
        assert_eq!(inventory.owner_of(node).map(|owner| &owner.root), Some(&environment.root));
    }
}

#[test]
fn a_hibernated_be_is_mounted_only_for_reading() {
    if !is_root() {
        return;
    }
    let swap = image(16 << 20);
    Tool::new("mkswap").args(["-q", "-U", SWAP]).arg(swap.path()).run().unwrap();
    let device = LoopDevice::attach(swap.path());
    let sleep = |signature: &[u8; 10]| {
        let file = std::fs::File::options().write(true).open(&device.node).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, signature, 4086).unwrap();
        file.sync_all().unwrap();
    };
    let (_, root) = with_lines(&format!("UUID={SWAP} none swap sw 0 0\n"));
    let look = || {
        let devices = Devices::scan(&Host::local()).unwrap();
        let nodes = [&root.device.node, &device.node];
        let ours = devices.iter().filter(|d| nodes.contains(&&d.node)).cloned().collect();
        crate::discover::look_at(ours)
    };
    assert!(look().environments[0].problems.is_empty());
    sleep(b"S1SUSPEND\0");
    let inventory = look();
    let [problem] = &inventory.environments[0].problems[..] else { panic!("one problem") };
    assert_eq!(problem.code, "hibernated");
    assert!(problem.text.contains(&format!("mkswap -U {SWAP} ")), "{problem}");
    let before = sum(&root);
    for mode in [MountMode::ReadWrite, MountMode::ForCommands] {
        let error = refused(&inventory, mode);
        assert!(matches!(error, Error::Refused(Refusal::Hibernated { .. })), "{error}");
    }
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let environment = &inventory.environments[0];
        MountedEnvironment::mount(&inventory, environment, dir.path(), MountMode::ReadOnly, &[])
            .unwrap()
            .unmount()
            .unwrap();
    });
    assert_eq!(before, sum(&root));
    sleep(b"SWAPSPACE2");
    assert!(look().environments[0].problems.is_empty());
}

const SWAP: &str = "2f0c1a94-0000-4000-8000-000000000099";

#[test]
fn a_hibernation_image_in_a_swap_file_is_found() {
    if !is_root() {
        return;
    }
    let root = RootFileSystem::make("ext4", |dir, uuid| {
        let fstab = format!("UUID={uuid} / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n");
        debian_root(dir, &fstab, uuid);
        let mut swap = vec![0; 64 << 10];
        // Version and number of pages, as mkswap(8) writes them.
        (swap[1024], swap[1028]) = (1, 15);
        swap[4086..4096].copy_from_slice(b"S1SUSPEND\0");
        std::fs::write(dir.join("swap.img"), swap).unwrap();
    });
    let inventory = inventory(std::slice::from_ref(&root));
    let codes: Vec<_> =
        inventory.environments[0].problems.iter().map(|p| p.code.as_ref()).collect();
    assert_eq!(codes, ["hibernated"]);
}

/// A BE on a portable disk, whose fstab has these lines, beside a running system that has a /var of
/// its own and a data disk that nothing names.
fn visitor(lines: &str) -> Inventory {
    let device = |name: &str, transport: &str| {
        let mut found = SuperBlock::new(Kind::Ext4);
        found.uuid = uuid::Uuid::new_v4().to_string().as_str().into();
        let number = DeviceNumber { major: 8, minor: u32::from(name.as_bytes()[2]) };
        let found = BlockDevice::example(name, found);
        BlockDevice { transport: transport.into(), number, ..found }
    };
    let devices: Devices =
        [("sda1", "ata"), ("sdb1", "ata"), ("sdc1", "usb"), ("sdd1", "ata"), ("sda", "ata")]
            .map(|(name, transport)| device(name, transport))
            .into_iter()
            .collect();
    let root = |name: &str| {
        let mut environment = BootEnvironment::empty(&Path::new("/dev").join(name));
        environment.root.disk = Path::new("/dev").join(name.trim_end_matches('1'));
        environment
    };
    let mut running = root("sda1");
    running.file_systems.push(FileSystemUse::example("/var", "/dev/sdb1"));
    let mut stick = root("sdc1");
    for line in lines.lines() {
        let (place, device) = line.split_once(' ').unwrap();
        stick.file_systems.push(FileSystemUse::example(place, device));
    }
    Inventory { environments: vec![stick, running], devices, ..Inventory::default() }
}

#[test]
fn a_be_on_a_portable_disk_reaches_no_device_of_this_machine() {
    let reached = |lines: &str, mode, is_for_programs, writable: &[PathBuf]| {
        let inventory = visitor(lines);
        let wanted = Wanted { is_for_programs, writable, ..Wanted::new(MountScope::All, mode) };
        let found = nested(&inventory, &inventory.environments[0], wanted);
        found.map(|found| {
            let modes: Vec<_> = found.mounts.iter().map(|mount| mount.mode).collect();
            (modes, found.left_out.join("; "))
        })
    };
    let commands =
        |lines: &str, writable: &[PathBuf]| reached(lines, MountMode::ForCommands, true, writable);
    // The root and the /var of the running system, and a disk that no other BE uses.
    for (line, why) in [
        ("/srv /dev/sda1", "belongs to '@/dev/sda1'"),
        ("/srv /dev/sdb1", "is in the fstab of"),
        ("/srv /dev/sdd1", "may come from another machine"),
    ] {
        let (modes, left_out) = commands(line, &[]).unwrap();
        assert!(modes.is_empty() && left_out.contains(why), "{line}: {left_out}");
        // Also where programs only read, as a package manager that plans does.
        let (modes, _) = reached(line, MountMode::ReadOnly, true, &[]).unwrap();
        assert!(modes.is_empty(), "{line}");
        // An administrator who mounts it may look, and changes nothing.
        let (modes, _) = reached(line, MountMode::ReadWrite, false, &[]).unwrap();
        assert_eq!(modes, [MountMode::ReadOnly], "{line}");
    }
    // What the programs make no sense without is not left out in silence.
    let refused = commands("/var /dev/sdd1", &[]).unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::OutOfReach { .. })), "{refused}");
    assert!(refused.to_string().contains("--writable /var"), "{refused}");
    let (modes, _) = commands("/var /dev/sdd1", &["/var".into()]).unwrap();
    assert_eq!(modes, [MountMode::ForCommands]);
    // The root of another one is never given away.
    let (modes, _) = commands("/srv /dev/sda1", &["/srv".into()]).unwrap();
    assert!(modes.is_empty());
}

#[test]
fn packages_are_not_installed_where_their_files_cannot_be_written() {
    // The running system, whose /var is on another disk and was not made for it.
    let inventory = visitor("");
    let running = &inventory.environments[1];
    refuse_for_commands(&inventory, running, &[], false).unwrap();
    let refused = refuse_for_commands(&inventory, running, &[], true).unwrap_err();
    assert!(refused.to_string().contains("--writable /var"), "{refused}");
    refuse_for_commands(&inventory, running, &["/var".into()], true).unwrap();
}

/// A btrfs with the running `@`, a snapshot of it, `@second`, and these lines in the fstab of both.
fn snapshots(lines: &[(&str, &str)]) -> Inventory {
    let mut found = SuperBlock::new(Kind::Btrfs);
    found.uuid = uuid::Uuid::new_v4().to_string().as_str().into();
    let device = BlockDevice::example("sda2", found);
    let root = |subvolume: &str, lines: &[(&str, &str)]| {
        let mut environment = BootEnvironment::empty(Path::new("/dev/sda2"));
        environment.root.subvolume = Some(subvolume.into());
        for (place, options) in lines {
            let line = FileSystemUse::example(place, "/dev/sda2");
            environment.file_systems.push(FileSystemUse { options: (*options).into(), ..line });
        }
        environment
    };
    let mut running = root("@", &[("/var", "subvol=@var")]);
    running.running = true;
    let environments = vec![root("@second", lines), running];
    Inventory { environments, devices: [device].into_iter().collect(), ..Inventory::default() }
}

#[test]
fn a_subvolume_of_another_root_is_not_reached() {
    let reached = |inventory: &Inventory, writable: &[PathBuf]| {
        let wanted = Wanted {
            is_for_programs: true,
            writable,
            ..Wanted::new(MountScope::All, MountMode::ForCommands)
        };
        nested(inventory, &inventory.environments[0], wanted).map(|found| found.mounts.len())
    };
    for (options, place, is_reached) in [
        // What only this one names.
        ("subvol=@second-srv", "/srv", true),
        // What the running one is made of, and what may be the same.
        ("subvol=@var", "/srv", false),
        ("subvol=@var/lib", "/srv", false),
        ("subvol=/./@var", "/srv", false),
        ("subvol=@second/../@var", "/srv", false),
        ("subvolid=300", "/srv", false),
        // The root of the running one, below it, and what holds it.
        ("subvol=@", "/srv", false),
        ("subvol=@/home", "/srv", false),
        ("subvol=/", "/srv", false),
        ("defaults", "/srv", false),
        ("subvolid=x", "/srv", false),
    ] {
        let inventory = snapshots(&[(place, options)]);
        assert_eq!(reached(&inventory, &[]).unwrap(), usize::from(is_reached), "{options}");
    }
    let inventory = snapshots(&[("/var", "subvol=@var")]);
    let refused = reached(&inventory, &[]).unwrap_err();
    assert!(refused.to_string().contains("--writable /var"), "{refused}");
    assert_eq!(reached(&inventory, &["/var".into()]).unwrap(), 1);
    // The mark is that of the file system, which was made for the first of them.
    let mut inventory = snapshots(&[("/var", "subvol=@var")]);
    let purpose = crate::environment::Purpose::FileSystem("/".into());
    for environment in &mut inventory.environments {
        let made = MadeDevice { device: "/dev/sda2".into(), purpose: purpose.clone() };
        environment.made.push(made);
    }
    reached(&inventory, &[]).unwrap_err();
    // A snapshot that nothing can be written to is made of what its original is.
    let mut inventory = snapshots(&[("/var", "subvol=@var")]);
    inventory.environments[1].read_only = true;
    inventory.environments[1].running = false;
    assert_eq!(reached(&inventory, &[]).unwrap(), 1);
}

#[test]
fn a_read_only_root_that_runs_keeps_its_var() {
    let mut inventory = snapshots(&[("/var", "subvol=@var")]);
    inventory.environments[1].read_only = true;
    let wanted =
        Wanted { is_for_programs: true, ..Wanted::new(MountScope::All, MountMode::ForCommands) };
    let refused = |inventory: &Inventory| {
        let found = nested(inventory, &inventory.environments[0], wanted).map(|_| ());
        found.map_or_else(|why| why.to_string(), |()| String::new())
    };
    assert!(refused(&inventory).contains("--writable /var"));
    // Nor does a copy of it get that where it does not run: no writable one is its original.
    inventory.environments[1].running = false;
    let mut copy = crate::environment::Descriptor::new("second".parse().unwrap(), None);
    copy.source = Some(crate::environment::Id::random());
    (copy.state, copy.operation) = (crate::environment::State::Complete, None);
    inventory.environments[0].descriptor = Some(copy);
    assert!(refused(&inventory).contains("--writable /var"));
}

#[test]
fn another_device_of_a_btrfs_is_the_same_file_system() {
    let mut inventory = snapshots(&[]);
    let number = DeviceNumber { major: 8, minor: 9 };
    let member = inventory.devices.by_name("sda2").unwrap().clone();
    let device = BlockDevice { name: "sda3".into(), node: "/dev/sda3".into(), number, ..member };
    inventory.devices = inventory.devices.iter().cloned().chain([device]).collect();
    let environment = &mut inventory.environments[0];
    environment.root.device = "/dev/sda5".into();
    let line = FileSystemUse::example("/srv", "/dev/sda3");
    environment.file_systems.push(FileSystemUse { options: "subvol=@".into(), ..line });
    let wanted =
        Wanted { is_for_programs: true, ..Wanted::new(MountScope::All, MountMode::ForCommands) };
    let found = nested(&inventory, &inventory.environments[0], wanted).unwrap();
    assert!(found.mounts.is_empty() && found.left_out[0].contains("belongs to"));
}

#[test]
fn a_copied_esp_keeps_nothing_from_being_mounted() {
    let mut inventory = visitor("");
    let devices = ["sde1", "sdf1"].map(|name| {
        let found = SuperBlock { uuid: "7A1B-22C3".into(), ..SuperBlock::new(Kind::Vfat) };
        let number = DeviceNumber { major: 8, minor: u32::from(name.as_bytes()[2]) };
        BlockDevice { number, ..BlockDevice::example(name, found) }
    });
    inventory.devices = inventory.devices.iter().cloned().chain(devices).collect();
    let running = &mut inventory.environments[1];
    running.file_systems.clear();
    running.file_systems.push(FileSystemUse {
        fs_type: "vfat".into(),
        spec: "UUID=7A1B-22C3".into(),
        device: None,
        ..FileSystemUse::example("/boot/efi", "")
    });
    for spec in ["UUID=7A1B-22C3", "UUID=0000-0000"] {
        inventory.environments[1].file_systems[0].spec = spec.into();
        refuse_for_commands(&inventory, &inventory.environments[1], &[], true).unwrap();
    }
}

#[test]
fn a_stick_with_a_volume_group_is_portable() {
    let device = |name: &str, transport: &str, slaves: &[&str]| BlockDevice {
        transport: transport.into(),
        slaves: slaves.iter().map(|name| (*name).to_owned()).collect(),
        ..BlockDevice::example(name, SuperBlock::new(Kind::Ext4))
    };
    let devices: Devices = [
        device("dm-0", "dm", &["sdb1"]),
        device("dm-1", "dm", &["sda1", "sdb1"]),
        device("dm-2", "dm", &["sda1"]),
        device("sda1", "ata", &[]),
        device("sda", "ata", &[]),
        device("sdb1", "usb", &[]),
        device("sdb", "usb", &[]),
    ]
    .into_iter()
    .collect();
    let is_portable = |name: &str| {
        BootEnvironment::empty(&Path::new("/dev").join(name)).is_on_portable_disk(&devices)
    };
    assert!(is_portable("dm-0") && is_portable("dm-1") && is_portable("sdb1"));
    assert!(!is_portable("dm-2") && !is_portable("sda1"));
}

#[test]
fn the_running_system_is_no_visitor() {
    let mut inventory = visitor("/data /dev/sdd1");
    let (stick, other) = (0, 1);
    inventory.environments[other].file_systems.push(FileSystemUse::example("/srv", "/dev/sdd1"));
    let reach = |inventory: &Inventory| {
        let wanted = Wanted {
            is_for_programs: true,
            ..Wanted::new(MountScope::All, MountMode::ForCommands)
        };
        nested(inventory, &inventory.environments[other], wanted).unwrap().left_out.join("; ")
    };
    // What a stranger's fstab says of this machine's disks counts for nothing.
    assert!(!reach(&inventory).contains("/dev/sdd1"));
    inventory.environments[stick].running = true;
    assert!(reach(&inventory).contains("/dev/sdd1 is in the fstab of"), "{}", reach(&inventory));
}

#[test]
fn a_source_has_no_file_system_of_another_be() {
    let mut inventory = visitor("/srv /dev/sda1\n/var /dev/sdb1\n/opt /dev/sdd1");
    let refused = |inventory: &Inventory, at: usize| {
        let stick = &inventory.environments[0];
        let line = &stick.file_systems[at];
        let device = inventory.devices.by_node(line.device.as_deref().unwrap()).unwrap();
        refuse_anothers(inventory, stick, line, device).err().map(|why| why.to_string())
    };
    for (at, is_refused) in [(0, true), (1, true), (2, false)] {
        assert_eq!(refused(&inventory, at).is_some(), is_refused, "{at}");
    }
    // What several mount by intention is no part of one of them.
    inventory.environments[0].file_systems[1].shared = true;
    assert_eq!(refused(&inventory, 1), None);
    // A system of this machine may have it in common with another one, which a note says.
    inventory.environments[0].file_systems[1].shared = false;
    inventory.environments[0].root.device = "/dev/sdd1".into();
    assert_eq!(refused(&inventory, 1), None);
    assert!(refused(&inventory, 0).is_some());
    // What runs has it mounted.
    inventory.environments[0].running = true;
    assert_eq!(refused(&inventory, 0), None);
}

#[test]
fn programs_need_what_they_write_to_even_with_nofail() {
    let mut inventory = visitor("");
    let running = &mut inventory.environments[1];
    running.file_systems.clear();
    for place in ["/boot", "/opt", "/var/lib", "/srv"] {
        running.file_systems.push(FileSystemUse {
            options: "nofail".into(),
            device: None,
            spec: "UUID=gone".into(),
            ..FileSystemUse::example(place, "")
        });
    }
    let refused = |at: usize, is_for_programs, installs_packages| {
        let mut inventory = inventory.clone();
        let line = inventory.environments[1].file_systems[at].clone();
        inventory.environments[1].file_systems = vec![line];
        let wanted = Wanted {
            is_for_programs,
            installs_packages,
            ..Wanted::new(MountScope::All, MountMode::ForCommands)
        };
        nested(&inventory, &inventory.environments[1], wanted).is_err()
    };
    // The place, for a mount, for commands, for packages.
    for (at, expected) in [
        (0, [false, true, true]),
        (1, [false, false, true]),
        (2, [false, false, true]),
        (3, [false, false, false]),
    ] {
        let found = [refused(at, false, false), refused(at, true, false), refused(at, true, true)];
        assert_eq!(found, expected, "{at}");
    }
}
