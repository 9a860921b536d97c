use super::*;
use crate::lock::MachineLock;
use std::time::Instant;

/// The standard error of QEMU 7.2 on a host where KVM runs SeaBIOS but not OVMF.
const STOPPED: &str = include_str!("kvm-internal-error.txt");

fn choice() -> &'static AcceleratorChoice {
    Box::leak(Box::new(AcceleratorChoice::new(|_| ())))
}

#[test]
fn the_firmware_reaches_its_first_boot_option_under_tcg() {
    let _lock = MachineLock::acquire().unwrap();
    for firmware in [Firmware::Ovmf, Firmware::OvmfSecureBoot] {
        let verdict = try_firmware(Accelerator::Tcg, firmware, deadline(60)).unwrap();
        assert_eq!(verdict, Verdict::ComesUp, "{firmware:?}");
    }
}

#[test]
fn a_guest_that_does_not_run_is_detected_in_time() {
    let _lock = MachineLock::acquire().unwrap();
    let start = Instant::now();
    let limit = Duration::from_millis(1500);
    let verdict = try_firmware(Accelerator::Tcg, Firmware::Ovmf, limit).unwrap();
    let Verdict::Fails(reason) = verdict else { panic!("{verdict:?}") };
    assert_eq!(reason, "OVMF does not start under TCG (not within 1 s)");
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[test]
fn without_kvm_no_firmware_is_tried() {
    let verdict = probe(Path::new("/no/such/kvm"), Firmware::Ovmf).unwrap();
    assert_eq!(verdict, Verdict::Fails("/no/such/kvm does not exist".to_owned()));
}

#[test]
fn internal_errors_are_told_from_warnings() {
    let entry = "KVM: entry failed, hardware error 0x80000021\n\nIf you're running a guest on";
    let run = "error: kvm run failed Bad address\nRAX=0\n";
    for (stderr, expected) in [
        (STOPPED, Some("KVM internal error. Suberror: 1, emulation failure")),
        (entry, Some("KVM: entry failed, hardware error 0x80000021")),
        (run, Some("error: kvm run failed Bad address")),
        (
            "KVM internal error. Suberror: 3\nextra data[0]: 0",
            Some("KVM internal error. Suberror: 3"),
        ),
        ("", None),
        ("qemu: warning: host doesn't support requested feature: CPUID.01H:ECX.pni [bit 0]", None),
        ("Could not access KVM kernel module: Permission denied", None),
    ] {
        assert_eq!(internal_error(stderr).map(summary).as_deref(), expected, "{stderr}");
    }
}

#[test]
fn each_firmware_is_tried_once_and_tcg_stays_chosen() {
    let choice = choice();
    let comes_up = |_| Ok(Verdict::ComesUp);
    let never = |firmware| panic!("{firmware:?} is tried again");
    let of = |chosen: ChosenAccelerator| (chosen.accelerator, chosen.choice.is_some());
    let kvm = (Accelerator::Kvm, true);
    let tcg = (Accelerator::Tcg, false);

    assert_eq!(of(choice.choose_with(None, Firmware::Ovmf, comes_up).unwrap()), kvm);
    assert_eq!(of(choice.choose_with(Some(""), Firmware::Ovmf, never).unwrap()), kvm);
    assert_eq!(of(choice.choose_with(None, Firmware::SeaBios, never).unwrap()), kvm);
    let fails = |_| Ok(Verdict::Fails("SMM does not run".to_owned()));
    assert_eq!(of(choice.choose_with(None, Firmware::OvmfSecureBoot, fails).unwrap()), tcg);
    assert_eq!(of(choice.choose_with(None, Firmware::Ovmf, never).unwrap()), tcg);
}

#[test]
fn a_forced_accelerator_is_neither_tried_nor_replaced() {
    let choice = choice();
    let never = |firmware| panic!("{firmware:?} is tried");
    for (forced, accelerator) in [("kvm", Accelerator::Kvm), ("tcg", Accelerator::Tcg)] {
        let chosen = choice.choose_with(Some(forced), Firmware::Ovmf, never).unwrap();
        assert_eq!((chosen.accelerator, chosen.choice.is_some()), (accelerator, false));
    }
    let error = choice.choose_with(Some("hvf"), Firmware::Ovmf, never).err().unwrap();
    assert!(error.to_string().contains("use tcg or kvm"), "{error}");
}

#[test]
fn missing_firmware_is_an_error_and_not_a_reason() {
    let missing = |_| Err(Error::MissingFile { path: "/x".into(), package: "ovmf" });
    assert!(choice().choose_with(None, Firmware::Ovmf, missing).is_err());
}

#[test]
fn a_choice_and_its_change_are_each_reported_once() {
    static PRINTED: Mutex<Vec<String>> = Mutex::new(Vec::new());
    static CHOICE: AcceleratorChoice =
        AcceleratorChoice::new(|line| PRINTED.lock().unwrap().push(line.to_owned()));
    for _ in 0..2 {
        CHOICE.choose_with(None, Firmware::Ovmf, |_| Ok(Verdict::ComesUp)).unwrap();
    }
    for _ in 0..2 {
        CHOICE.give_up_kvm("machine a stopped under KVM (KVM internal error. Suberror: 1)");
    }
    let never = |firmware| panic!("{firmware:?} is tried");
    let chosen = CHOICE.choose_with(None, Firmware::Ovmf, never).unwrap();
    assert_eq!(chosen.accelerator, Accelerator::Tcg);
    assert_eq!(
        *PRINTED.lock().unwrap(),
        [
            "machines run under KVM: OVMF reaches its first boot option",
            "machines run under TCG from now on: machine a stopped under KVM (KVM internal error. \
                Suberror: 1)"
        ]
    );
}
