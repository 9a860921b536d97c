use boot::efi::device_path::{DevicePath, Node};

use super::*;
use crate::loader::contract::run;
use crate::loader::testing::{Firmware, environment};

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
