use std::path::Path;

use super::*;
use crate::storage::mkfs;
use crate::storage::testing::{LoopDevice, image, in_namespace, is_root, mount_target};

fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// A loop device with an ext4.
fn ext4() -> (LoopDevice, tempfile::NamedTempFile) {
    let file = image(64 << 20);
    let device = LoopDevice::attach(file.path());
    mkfs::make("ext4", &device.hold(), &fresh(), None).unwrap();
    (device, file)
}

fn how(result: Result<impl std::fmt::Debug>) -> &'static str {
    match result {
        Err(Error::Refused(Refusal::DeviceChanged { how, .. })) => how,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_device_that_is_as_in_the_plan_is_claimed_and_nobody_else_gets_it() {
    if !is_root() {
        return;
    }
    let (device, _file) = ext4();
    let holds = Holds::take([&device.device(), &device.device()]).unwrap();
    holds.claim().unwrap();
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount_target(&device.node, "ext4", dir.path());
        assert!(mounted.unwrap_err().to_string().contains("busy"));
    });
    let hold = holds.of(&device.device()).unwrap();
    mkfs::make("xfs", hold, &fresh(), None).unwrap_err();
    mkfs::make("ext4", hold, &fresh(), None).unwrap();
    let unknown = holds.of(&BlockDevice::bare(Path::new("/dev/lifeboat-none")));
    assert!(matches!(unknown, Err(Error::NotHeld { .. })));
}

#[test]
fn content_that_changed_since_the_plan_is_not_erased() {
    if !is_root() {
        return;
    }
    let (device, _file) = ext4();
    let uuid = fresh();
    let (seen, holds) = (device.device(), Holds::take([&device.device()]).unwrap());
    Tool::new("mke2fs").args(["-qF", "-t", "ext4", "-U", &uuid]).arg(&device.node).run().unwrap();
    assert!(how(holds.claim()).contains("content"));
    assert!(how(Hold::take(&seen)).contains("content"));
    assert_eq!(device.file_system().uuid, uuid);
}

#[test]
fn a_file_that_changed_through_a_mount_is_noticed() {
    if !is_root() {
        return;
    }
    let (device, _file) = ext4();
    let holds = Holds::take([&device.device()]).unwrap();
    in_namespace(|| {
        let dir = tempfile::tempdir().unwrap();
        let mounted = mount_target(&device.node, "ext4", dir.path()).unwrap();
        std::fs::write(dir.path().join("customers.db"), "all of them").unwrap();
        mounted.unmount().unwrap();
    });
    assert!(how(holds.claim()).contains("content"));
}

#[test]
fn a_device_of_another_size_is_not_erased() {
    if !is_root() {
        return;
    }
    let (device, file) = ext4();
    let (seen, hold) = (device.device(), device.hold());
    file.as_file().set_len(48 << 20).unwrap();
    Tool::new("losetup").arg("--set-capacity").arg(&device.node).run().unwrap();
    assert!(how(hold.exclusive()).contains("size"));
    assert!(how(mkfs::make("ext4", &hold, &fresh(), None)).contains("size"));
    assert!(how(Hold::take(&seen)).contains("size"));
}

#[test]
fn a_name_that_passed_to_another_device_leads_nowhere() {
    if !is_root() {
        return;
    }
    let ((device, _file), (other, _other)) = (ext4(), ext4());
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("sdb1");
    let name_it = |device: &BlockDevice| {
        let (major, minor) = device.number.into();
        let number = rustix::fs::makedev(major, minor);
        let block = rustix::fs::FileType::BlockDevice;
        rustix::fs::mknodat(rustix::fs::CWD, &name, block, 0o600.into(), number).unwrap();
    };
    name_it(&device.device());
    let named = BlockDevice { node: name.clone(), ..device.device() };
    let (hold, holds) = (Hold::take(&named).unwrap(), Holds::take([&named]).unwrap());
    std::fs::remove_file(&name).unwrap();
    name_it(&other.device());
    let before = other.file_system();
    assert!(how(holds.claim()).contains("name"));
    assert!(how(mkfs::wipe(&hold)).contains("name"));
    assert!(how(Hold::take(&named)).contains("name"));
    assert_eq!(other.file_system(), before);
}

#[test]
fn the_number_of_a_held_device_is_not_given_to_another_file() {
    if !is_root() {
        return;
    }
    let (device, _file) = ext4();
    let (other, hold) = (image(64 << 20), device.hold());
    // The kernel detaches the file only once nothing has the device open.
    let _ = Tool::new("losetup").arg("--detach").arg(&device.node).run();
    let attached = Tool::new("losetup").arg(&device.node).arg(other.path()).run();
    assert!(attached.is_err());
    hold.refuse_exchanged().unwrap();
    drop(hold);
}

#[test]
fn another_medium_in_the_same_drive_is_noticed() {
    if !is_root() {
        return;
    }
    let (device, _file) = ext4();
    let hold = device.hold();
    let Some(sequence) = hold.device.sequence else { return };
    let device = BlockDevice { sequence: Some(sequence + 1), ..hold.device.clone() };
    assert!(how(Hold::take(&device)).contains("medium"));
    let exchanged = Hold { device, ..hold };
    assert!(how(exchanged.exclusive()).contains("medium"));
    assert!(how(mkfs::wipe(&exchanged)).contains("medium"));
}
