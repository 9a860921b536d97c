use std::path::PathBuf;

use boot::efi::device_path::{DevicePath, Node};

use super::*;
use crate::loader::contract::run;
use crate::loader::testing::{Firmware, environment};
use crate::loader::trial_record::FILE;

struct Machine {
    firmware: Firmware,
    inventory: Inventory,
    second: BootEnvironment,
    debian: u16,
    own: u16,
}

/// `second` runs; Debian's own entry is first.
fn machine(record: TrialRecord, current: Option<u16>) -> Machine {
    let (firmware, mut second) = (Firmware::new(), environment("second", "aaaa-02"));
    let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
    (descriptor.state, descriptor.operation) = (State::Complete, None);
    let debian = firmware.add("debian", r"\EFI\debian\shimx64.efi");
    let file = format!(r"\EFI\lifeboat\{}\grubx64.efi", descriptor.id.short());
    let own = firmware.add("Lifeboat: second (Debian 12)", &file);
    firmware.set("BootCurrent", current.unwrap_or(own).to_le_bytes().to_vec());
    firmware.make_record(descriptor.id);
    record.store(&firmware.esp(), &descriptor.id.short()).unwrap();
    second.descriptor = Some(descriptor);
    let inventory = Inventory { devices: firmware.devices(), ..Inventory::default() };
    Machine { firmware, inventory, second, debian, own }
}

impl Machine {
    fn with<T>(&self, work: impl FnOnce(&EnvironmentEntry) -> T) -> T {
        let host = self.firmware.host();
        work(&EnvironmentEntry::new(&host, &self.inventory, &self.second))
    }

    /// Confirms the trial. Returns its state before that.
    fn confirm(&self) -> Result<Option<Trial>> {
        self.with(|entry| {
            let trial = entry.running_trial()?;
            run(&entry.confirm()?).map(|()| trial)
        })
    }

    fn record(&self) -> TrialRecord {
        let id = self.second.descriptor.as_ref().unwrap().id;
        TrialRecord::load(&self.firmware.esp(), &id.short()).unwrap()
    }

    /// The BE's directory on the copy of the ESP.
    fn copy(&self) -> PathBuf {
        let id = self.second.descriptor.as_ref().unwrap().id;
        self.firmware.copy_of_esp().root().join(Esp::directory_of(&id.short()))
    }

    fn order(&self) -> Vec<u16> {
        self.firmware.entries().order().unwrap()
    }
}

const TRIED: TrialRecord = TrialRecord { trial: true, tried: true, attempts: 1, previous: Some(0) };

#[test]
fn a_trial_that_came_up_becomes_first_in_the_order() {
    let machine = machine(TRIED, None);
    assert_eq!(machine.confirm().unwrap(), Some(Trial::Running));
    assert_eq!(machine.order(), [machine.own, machine.debian]);
    assert!(machine.with(|entry| entry.is_default()).unwrap());
    assert_eq!(machine.record(), TrialRecord::default());
    assert_eq!(machine.confirm().unwrap(), None);
}

#[test]
fn a_boot_without_a_trial_clears_only_the_count() {
    let machine = machine(TrialRecord { attempts: 3, ..TrialRecord::default() }, None);
    assert_eq!(machine.confirm().unwrap(), None);
    assert_eq!(machine.order(), [machine.debian, machine.own]);
    assert_eq!(machine.record(), TrialRecord::default());
}

#[test]
fn a_boot_through_another_entry_is_not_the_trial() {
    for (record, current) in [(TRIED, Some(0)), (TrialRecord { tried: false, ..TRIED }, None)] {
        let machine = machine(record, current);
        assert_ne!(machine.confirm().unwrap(), Some(Trial::Running));
        assert_eq!(machine.order(), [machine.debian, machine.own]);
        assert_eq!(machine.record(), TrialRecord { attempts: 0, ..record });
    }
}

/// A way in which the running BE knows its ESP from that of a copy of its disk.
type Known = fn(&Machine);

const WAYS: [Known; 3] = [
    |machine| machine.firmware.mount_root(),
    |machine| machine.firmware.mount_esp(),
    // The copy was made while no start was counted.
    |machine| {
        let id = machine.second.descriptor.as_ref().unwrap().id;
        TrialRecord::default().store(&machine.firmware.copy_of_esp(), &id.short()).unwrap();
    },
];

fn with_a_copy_of_the_disk(record: TrialRecord, known: Known) -> Machine {
    let mut machine = machine(record, None);
    machine.inventory.devices = machine.firmware.attach_copy();
    machine.second.running = true;
    known(&machine);
    machine
}

#[test]
fn a_trial_is_confirmed_although_a_copy_of_the_disk_is_attached() {
    for known in WAYS {
        let machine = with_a_copy_of_the_disk(TRIED, known);
        let of_the_copy = || boot::grubenv::read(&machine.copy().join(FILE)).unwrap();
        let before = of_the_copy();
        assert_eq!(machine.confirm().unwrap(), Some(Trial::Running));
        assert_eq!(machine.order(), [machine.own, machine.debian]);
        assert_eq!(machine.record(), TrialRecord::default());
        assert_eq!(of_the_copy(), before);
    }
}

#[test]
fn attempts_are_cleared_although_a_copy_of_the_disk_is_attached() {
    for known in WAYS {
        let record = TrialRecord { attempts: 3, ..TrialRecord::default() };
        let machine = with_a_copy_of_the_disk(record, known);
        assert_eq!(machine.confirm().unwrap(), None);
        assert_eq!(machine.record(), TrialRecord::default());
        // Where nothing is counted, there is nothing to clear.
        assert_eq!(machine.confirm().unwrap(), None);
    }
}

#[test]
fn nothing_is_confirmed_where_it_is_not_known_which_esp_was_started() {
    let machine = with_a_copy_of_the_disk(TRIED, |_| ());
    let refused = machine.confirm().unwrap_err();
    assert!(matches!(refused, Error::Refused(Refusal::AmbiguousEsp { .. })), "{refused}");
    assert_eq!(machine.record(), TRIED);
}

#[test]
fn an_esp_that_a_boot_entry_cannot_name_is_refused_and_is_a_problem() {
    let mut machine = with_a_copy_of_the_disk(TRIED, WAYS[0]);
    for running in [true, false] {
        machine.second.running = running;
        let code = |result: Result<()>| match result.unwrap_err() {
            Error::Refused(refusal) => {
                assert!(refusal.to_string().contains("sgdisk --partition-guid"), "{refusal}");
                refusal.code()
            }
            other => panic!("{other}"),
        };
        assert_eq!(machine.with(|e| code(e.prove_switch(true).map(drop))), "ambiguous-esp");
        assert_eq!(machine.with(|e| code(e.location().map(drop))), "ambiguous-esp");
        let state = machine.with(|entry| entry.state(|_, _| Vec::new()).unwrap());
        let [problem] = &state.problems[..] else { panic!("{:?}", state.problems) };
        assert_eq!(problem.code(), "loader-ambiguous-esp");
        let problem = problem.to_string();
        assert!(problem.contains("lifeboat-copy1 and /dev/lifeboat-esp1"), "{problem}");
        // The running one still knows its trial.
        assert_eq!(state.trial, running.then_some(Trial::Running));
    }
    // Nor is it chosen for a BE that has no entry yet.
    machine.firmware.entries().remove(machine.own).unwrap();
    machine.second.root.disk = "/dev/lifeboat-esp".into();
    let refused = machine.with(|entry| entry.location().unwrap_err());
    assert!(matches!(refused, Error::Refused(Refusal::AmbiguousEsp { .. })), "{refused}");
}

#[test]
fn an_incomplete_be_is_not_confirmed() {
    let mut machine = machine(TRIED, None);
    machine.second.descriptor.as_mut().unwrap().state = State::Incomplete;
    assert!(machine.confirm().is_err());
    assert_eq!(machine.record(), TRIED);
}

#[test]
fn something_to_fall_back_to_must_remain() {
    let machine = machine(TrialRecord::default(), None);
    let status = |force| {
        machine.with(|entry| entry.prove_switch(force)).map_or_else(|e| e.exit_status(), |_| 0)
    };
    assert_eq!(status(false), 0);
    machine.firmware.entries().remove_foreign(machine.debian).unwrap();
    assert_eq!(status(false), 3);
    assert_eq!(status(true), 0);
}

#[test]
fn a_machine_that_boots_over_the_network_first_is_told_that_this_changes() {
    let machine = machine(TrialRecord::default(), None);
    let notes = || machine.with(|entry| entry.prove_switch(false)).unwrap();
    assert_eq!(notes(), Vec::<String>::new());
    let nodes = vec![
        Node::Other { kind: 3, sub_kind: 11, data: vec![0; 33] },
        Node::Other { kind: 3, sub_kind: 12, data: vec![0; 23] },
    ];
    let pxe = LoadOption::new("UEFI PXEv4", DevicePath(nodes));
    let number = machine.firmware.entries().add(&pxe, Position::First).unwrap();
    let [note] = notes().try_into().unwrap();
    assert!(note.contains("UEFI PXEv4"), "{note}");
    assert!(note.contains(&format!("`be boot-entries order {number:04X}`")), "{note}");
}
