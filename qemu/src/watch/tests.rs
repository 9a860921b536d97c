use super::*;
use crate::accel::ChosenAccelerator;
use crate::lock::MachineLock;
use crate::{Builder, Disk, Error, Machine};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

const WORDS: &str = "KVM internal error. Suberror: 1, emulation failure";

/// A machine whose QEMU simulates a failure of KVM: under KVM the guest does not run, and after
/// some seconds QEMU prints an internal error.
fn machine(chosen: ChosenAccelerator, seconds: u32) -> (Machine, MachineLock) {
    let words = concat!(env!("CARGO_MANIFEST_DIR"), "/src/accel/kvm-internal-error.txt");
    let script = format!(
        r#"#!/bin/sh
        for argument; do
            shift
            case $argument in
                kvm) argument=tcg; stopped=-S; (sleep {seconds}; cat '{words}' >&2) & ;;
                host) argument=max ;;
            esac
            set -- "$@" "$argument"
        done
        exec qemu-system-x86_64 "$@" $stopped
        "#
    );
    let builder = Builder::new("stopped").unwrap();
    let program = builder.directory.path().join("qemu");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let lock = MachineLock::acquire().unwrap();
    let builder = builder.program(&program).disk(Disk::blank(1 << 20).logged());
    (Machine::start_under(builder, chosen, None, deadline(60)).unwrap(), lock)
}

fn choice() -> &'static AcceleratorChoice {
    Box::leak(Box::new(AcceleratorChoice::new(|_| ())))
}

#[test]
fn a_machine_that_kvm_gives_up_on_is_started_again_under_tcg() {
    let choice = choice();
    let chosen = ChosenAccelerator { accelerator: Accelerator::Kvm, choice: Some(choice) };
    let (vm, _lock) = machine(chosen, 0);
    vm.console().expect("BdsDxe: starting Boot", deadline(60)).unwrap();
    assert_eq!(vm.qmp("query-status", serde_json::json!({})).unwrap()["status"], "running");
    assert!(choice.has_given_up_kvm());
}

#[test]
fn a_machine_that_must_run_under_kvm_fails_at_once() {
    let (vm, _lock) = machine(ChosenAccelerator::only(Accelerator::Kvm), 0);
    let start = Instant::now();
    for error in [
        vm.console().expect("login:", deadline(60)).unwrap_err(),
        vm.ready_within(deadline(60)).unwrap_err(),
        vm.next_boot("", deadline(60)).unwrap_err(),
        vm.off(deadline(60)).unwrap_err(),
        vm.run("true").unwrap_err(),
    ] {
        let Error::Accelerator { words, .. } = error else { panic!("{error}") };
        assert_eq!(summary(&words), WORDS);
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_machine_that_was_used_is_not_started_again() {
    let choice = choice();
    let chosen = ChosenAccelerator { accelerator: Accelerator::Kvm, choice: Some(choice) };
    let (vm, _lock) = machine(chosen, 3);
    vm.process.status.mark_used();
    let error = vm.console().expect("BdsDxe", deadline(60)).unwrap_err();
    assert!(matches!(error, Error::Accelerator { .. }), "{error}");
    assert!(choice.has_given_up_kvm(), "the next machine runs under TCG");
}
