use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use super::*;
use crate::storage::probe::Content;
use crate::storage::testing::{LoopDevice, image, is_root};
use crate::tool::Tool;

/// A sysfs and a /dev of regular files, with the paths of a real machine.
struct FakeMachine {
    dir: tempfile::TempDir,
}

impl FakeMachine {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for directory in ["sys/class/block", "dev/mapper", "proc", "run"] {
            fs::create_dir_all(dir.path().join(directory)).unwrap();
        }
        FakeMachine { dir }
    }

    fn host(&self) -> Host {
        Host::below(self.dir.path())
    }

    /// Adds a device whose directory in sysfs is `path` below /sys/devices.
    fn add(&self, path: &str, number: &str, content: &[u8]) -> FakeDevice {
        let name = path.rsplit('/').next().unwrap();
        let directory = self.dir.path().join("sys/devices").join(path);
        fs::create_dir_all(&directory).unwrap();
        symlink(&directory, self.dir.path().join("sys/class/block").join(name)).unwrap();
        fs::write(self.dir.path().join("dev").join(name), content).unwrap();
        let sectors = (content.len() / 512).to_string();
        FakeDevice { directory }.attribute("dev", number).attribute("size", &sectors)
    }
}

/// The directory of a device in sysfs.
struct FakeDevice {
    directory: PathBuf,
}

impl FakeDevice {
    fn attribute(self, file: &str, text: &str) -> Self {
        let file = self.directory.join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
        self
    }
}

fn machine() -> FakeMachine {
    let fake = FakeMachine::new();
    let disk = image(96 << 20);
    Tool::new("sgdisk")
        .args(["-n1:2048:+33M", "-t1:ef00", "-u1:aaaaaaaa-0000-0000-0000-000000000001"])
        .args(["-n2:0:+16M", "-t2:8300", "-c2:primary", "-u2:aaaaaaaa-0000-0000-0000-000000000002"])
        .arg(disk.path())
        .run()
        .unwrap();
    let esp = image(33 << 20);
    Tool::new("mkfs.fat")
        .args(["-F32", "-i", "1234ABCD", "-n", "EFI"])
        .arg(esp.path())
        .run()
        .unwrap();
    let root = image(16 << 20);
    Tool::new("mke2fs")
        .args(["-qFt", "ext4", "-L", "root", "-U", "bbbbbbbb-0000-0000-0000-000000000002"])
        .arg(root.path())
        .run()
        .unwrap();
    let bytes = |file: &tempfile::NamedTempFile| fs::read(file.path()).unwrap();
    let vda = "pci0/virtio1/block/vda";
    fake.add(vda, "254:0", &bytes(&disk))
        .attribute("serial", "SER1AL\n")
        .attribute("queue/logical_block_size", "512")
        .attribute("ro", "0");
    fake.add(&format!("{vda}/vda1"), "254:1", &bytes(&esp))
        .attribute("partition", "1")
        .attribute("start", "2048");
    fake.add(&format!("{vda}/vda2"), "254:2", &bytes(&root))
        .attribute("partition", "2")
        .attribute("start", "69632");
    let usb = "pci0/usb2/2-1/2-1:1.0/host3/target3:0:0/3:0:0:0/block/sdb";
    fake.add(usb, "8:16", &[0; 4096])
        .attribute("device/model", "Stick\n")
        .attribute("device/vendor", "Acme")
        .attribute("removable", "1\n");
    let sata = "pci0/ata3/host2/target2:0:0/2:0:0:0/block/sda";
    fake.add(sata, "8:0", &[1; 4096])
        .attribute("device/vendor", "ATA")
        .attribute("device/model", "QEMU HARDDISK")
        .attribute("device/vpd_pg80", "\0\u{80}\0\u{4}Q001");
    fake.add("virtual/block/dm-0", "252:0", &[0; 512])
        .attribute("dm/name", "my--vg-root")
        .attribute("dm/uuid", "LVM-x")
        .attribute("slaves/sda", "");
    fake.add("pci0/nvme/nvme0/nvme0c0n1", "259:1", &[0; 512]).attribute("hidden", "1\n");
    fake.add("virtual/block/loop0", "7:0", &[0; 512]);
    fake.add("virtual/block/zram0", "253:0", &[]);
    fake
}

#[test]
fn sysfs_is_read_and_idle_devices_left_out() {
    let fake = machine();
    let devices = Devices::scan(&fake.host()).unwrap();
    let names: Vec<_> = devices.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["dm-0", "sda", "sdb", "vda", "vda1", "vda2"]);
    let esp = devices.by_name("vda1").unwrap();
    assert!(
        esp.is_esp() && esp.disk == "vda" && esp.serial == "SER1AL" && esp.transport == "virtio"
    );
    assert_eq!(esp.content.kind(), Some(Kind::Vfat));
    let stick = devices.by_name("sdb").unwrap();
    assert!(stick.removable && stick.content.is_blank());
    assert_eq!((stick.model.as_str(), stick.transport.as_str()), ("Acme Stick", "usb"));
    let sata = devices.by_name("sda").unwrap();
    assert_eq!(
        (sata.model.as_str(), sata.serial.as_str(), &sata.content),
        ("QEMU HARDDISK", "Q001", &Content::Unknown)
    );
    assert_eq!(devices.disk_of(devices.by_name("dm-0").unwrap()).name, "sda");
    assert_eq!(devices.by_name("vda").unwrap().content.kind(), Some(Kind::Gpt));
    assert_eq!(devices.esps().count(), 1);
    assert_eq!(devices.partitions_of(devices.by_name("vda").unwrap()).count(), 2);
}

#[test]
fn a_device_is_found_by_each_of_its_names() {
    let fake = machine();
    let host = fake.host();
    let devices = Devices::scan(&host).unwrap();
    let node = host.dev.join("vda2").display().to_string();
    for (reference, name) in [
        ("vda2", "vda2"),
        (node.as_str(), "vda2"),
        ("UUID=bbbbbbbb-0000-0000-0000-000000000002", "vda2"),
        ("UUID=\"BBBBBBBB-0000-0000-0000-000000000002\"", "vda2"),
        ("UUID=1234-ABCD", "vda1"),
        ("LABEL=root", "vda2"),
        ("PARTUUID=aaaaaaaa-0000-0000-0000-000000000001", "vda1"),
        ("PARTLABEL=primary", "vda2"),
        ("my-vg/root", "dm-0"),
        ("my--vg-root", "dm-0"),
        // Without udev there are no such symlinks, as in the rescue image.
        ("/dev/disk/by-uuid/bbbbbbbb-0000-0000-0000-000000000002", "vda2"),
        ("/dev/disk/by-label/root", "vda2"),
        ("/dev/disk/by-partuuid/aaaaaaaa-0000-0000-0000-000000000001", "vda1"),
        ("/dev/disk/by-partlabel/primary", "vda2"),
    ] {
        assert_eq!(devices.resolve(reference).unwrap().name, name, "{reference}");
    }
    for unknown in ["vdb", "/dev/none", "UUID=", "LABEL=x", "PARTUUID=x", "ID=x", "", "UUID"] {
        assert!(matches!(devices.resolve(unknown), Err(Error::Usage(_))), "{unknown}");
    }
}

#[test]
fn two_file_systems_of_one_uuid_are_ambiguous() {
    let fake = machine();
    let twin = fs::read(fake.dir.path().join("dev/vda2")).unwrap();
    fake.add("pci0/virtio2/block/vdb", "254:16", &twin);
    let devices = Devices::scan(&fake.host()).unwrap();
    for name in ["LABEL=root", "/dev/disk/by-uuid/bbbbbbbb-0000-0000-0000-000000000002"] {
        match devices.resolve(name) {
            Err(Error::Refused(Refusal::Ambiguous { candidates, .. })) => {
                assert_eq!(candidates.len(), 2)
            }
            other => panic!("{other:?}"),
        }
        let refused = devices.refuse_ambiguous(name).unwrap_err().to_string();
        assert!(refused.contains("vda2") && refused.contains("vdb"), "{refused}");
    }
    devices.refuse_ambiguous("PARTLABEL=primary").unwrap();
    devices.refuse_ambiguous("UUID=none").unwrap();
}

fn held(name: &str, uuid: &str, slaves: &[&str], devices: u64) -> BlockDevice {
    let mut found = SuperBlock::new(Kind::Btrfs);
    (found.uuid, found.devices) = (uuid.into(), devices);
    let slaves = slaves.iter().map(|slave| (*slave).to_owned()).collect();
    BlockDevice { slaves, ..BlockDevice::example(name, found) }
}

#[test]
fn the_paths_of_a_multipath_disk_do_not_make_it_ambiguous() {
    // multipath(8): dm-0 over the disks sda and sdb, and dm-1 for the partition that is sda1 too.
    let mut upper = [held("dm-0", "b0", &["sda", "sdb"], 1), held("dm-1", "a0", &["dm-0"], 1)];
    upper.iter_mut().for_each(|d| d.disk.clone_from(&d.name));
    let paths = ["sda1", "sdb1"].map(|name| held(name, "a0", &[], 1));
    let devices: Devices = upper.into_iter().chain(paths.clone()).collect();
    assert_eq!(devices.resolve("UUID=a0").unwrap().name, "dm-1");
    let copies: Devices = paths.into_iter().collect();
    assert!(copies.resolve("UUID=a0").is_err());
}

#[test]
fn a_copy_of_an_array_is_not_taken_for_more_of_its_devices() {
    let member = |(name, device_id): (&str, u64)| {
        let mut member = held(name, "a0", &[], 2);
        let Content::Known(found) = &mut member.content else { panic!("it is known") };
        found.device_id = Some(device_id);
        member
    };
    let array: Devices = [("vda1", 1), ("vdb1", 2)].map(member).into_iter().collect();
    assert_eq!(array.resolve("UUID=a0").unwrap().name, "vda1");
    let both: Devices =
        [("vda1", 1), ("vdb1", 2), ("vdc1", 1), ("vdd1", 2)].map(member).into_iter().collect();
    assert!(both.resolve("UUID=a0").is_err());
    // One of its devices is away, and a copy of the other is in its place.
    let twice: Devices = [("vda1", 1), ("vdb1", 1)].map(member).into_iter().collect();
    assert!(twice.resolve("UUID=a0").is_err());
}

#[test]
fn a_plan_line_says_what_is_lost() {
    let fake = machine();
    let devices = Devices::scan(&fake.host()).unwrap();
    let line = devices.by_name("vda2").unwrap().planned("ext4 for /");
    assert!(line.holds.starts_with("ext4 \"root\" ("), "{}", line.holds);
    assert_eq!(
        (line.model.as_str(), line.serial.as_str(), line.size),
        ("virtio disk", "SER1AL", 16 << 20)
    );
}

#[test]
fn a_loop_device_is_found_through_symlinks() {
    if !is_root() {
        return;
    }
    let file = image(16 << 20);
    Tool::new("mkswap").arg(file.path()).run().unwrap();
    let device = LoopDevice::attach(file.path());
    let devices = Devices::scan(&Host::local()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    symlink(&device.node, directory.path().join("by-id")).unwrap();
    let found = devices.by_node(&directory.path().join("by-id")).unwrap();
    assert_eq!(
        (found.node.as_path(), found.content.kind()),
        (device.node.as_path(), Some(Kind::Swap))
    );
    assert_eq!(found.model, format!("loop over {}", file.path().display()));
}
