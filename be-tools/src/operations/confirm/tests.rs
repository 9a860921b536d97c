use std::os::unix::fs::PermissionsExt;

use boot::esp::Esp;
use boot::grubenv::EnvironmentBlock;

use super::*;
use crate::loader::testing::Firmware;

struct Machine {
    firmware: Firmware,
    directory: tempfile::TempDir,
    descriptor: Descriptor,
    debian: u16,
    second: u16,
}

/// `second` runs; Debian's own entry is first.
fn machine(record: Record, current: Option<u16>) -> Machine {
    let (firmware, directory) = (Firmware::new(), tempfile::tempdir().unwrap());
    let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
    (descriptor.state, descriptor.operation) = (State::Complete, None);
    let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
    let file = format!(r"\EFI\lifeboat\{}\grubx64.efi", descriptor.id.short());
    let second = firmware.add("Lifeboat: second (Debian 12)", &file);
    firmware.set("BootCurrent", current.unwrap_or(second).to_le_bytes().to_vec());
    let mut block = EnvironmentBlock::new();
    record.write(&mut block).unwrap();
    let path = Esp::directory_of(&descriptor.id.short()).join("lifeboat.env");
    Esp::new(directory.path()).write_new(&path, &block.to_bytes().unwrap()).unwrap();
    Machine { firmware, directory, descriptor, debian, second }
}

impl Machine {
    fn running(&self) -> Running {
        let own = OwnEntry::of(self.descriptor.clone(), self.firmware.entries()).unwrap().unwrap();
        Running::with(own, MountedEsp::of_directory(self.directory.path()))
    }

    fn record(&self) -> Record {
        Record::read(&self.running().read().unwrap())
    }

    fn order(&self) -> Vec<u16> {
        self.firmware.entries().order().unwrap()
    }
}

const TRIED: Record = Record { trial: true, tried: true, attempts: 1, previous: Some(0) };

#[test]
fn a_trial_that_came_up_is_first_from_now_on() {
    let machine = machine(TRIED, None);
    assert_eq!(machine.running().confirm().unwrap(), Confirmed::Permanent("second".into()));
    assert_eq!(machine.order(), [machine.second, machine.debian]);
    assert!(machine.running().own.is_first().unwrap());
    assert_eq!(machine.record(), Record::default());
    assert_eq!(machine.running().confirm().unwrap(), Confirmed::NoTrial);
}

#[test]
fn a_common_boot_clears_the_count_and_nothing_else() {
    let machine = machine(Record { attempts: 3, ..Record::default() }, None);
    assert_eq!(machine.running().confirm().unwrap(), Confirmed::NoTrial);
    assert_eq!(machine.order(), [machine.debian, machine.second]);
    assert_eq!(machine.record(), Record::default());
}

#[test]
fn what_came_by_another_entry_or_was_never_tried_is_no_trial() {
    for (record, current) in [(TRIED, Some(0)), (Record { tried: false, ..TRIED }, None)] {
        let machine = machine(record, current);
        assert_eq!(machine.running().confirm().unwrap(), Confirmed::NoTrial);
        assert_eq!(machine.order(), [machine.debian, machine.second]);
        assert_eq!(machine.record(), Record { attempts: 0, ..record });
    }
}

#[test]
fn an_incomplete_be_is_not_confirmed() {
    let mut machine = machine(TRIED, None);
    machine.descriptor.state = State::Incomplete;
    assert!(machine.running().confirm().is_err());
    assert_eq!(machine.record(), TRIED);
}

#[test]
fn every_health_check_must_succeed_in_time() {
    let root = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(500);
    run_health_checks(root.path(), limit).unwrap();
    let directory = root.path().join(HEALTH_CHECKS);
    std::fs::create_dir_all(&directory).unwrap();
    let write = |name: &str, text: &str, mode: u32| {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    write("10-good", "#!/bin/sh\nexit 0\n", 0o755);
    write("20-not-executable", "#!/bin/sh\nexit 1\n", 0o644);
    run_health_checks(root.path(), limit).unwrap();
    write("30-bad", "#!/bin/sh\nexit 3\n", 0o755);
    let message = run_health_checks(root.path(), limit).unwrap_err().to_string();
    assert!(message.contains("30-bad failed (exit status: 3)"), "{message}");
    write("30-bad", "#!/bin/sh\nexec sleep 60\n", 0o755);
    let message = run_health_checks(root.path(), limit).unwrap_err().to_string();
    assert!(message.contains("did not end within"), "{message}");
}
