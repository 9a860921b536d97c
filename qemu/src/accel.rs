//! Accelerators, which run the guest's instructions. That `/dev/kvm` can be opened does not prove
//! that KVM works: some nested hosts hang at the first instruction, others run SeaBIOS but stop in
//! OVMF at an instruction that KVM cannot emulate. So the firmware of a machine is tried before KVM
//! is chosen.

use crate::host::deadline;
use crate::{Builder, Error, Firmware, Machine, Result};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How many seconds OVMF may take to start under KVM. It needs two to four.
const PROBE: u64 = 10;

/// The beginning of every line of OVMF's boot manager, which it prints with or without a boot
/// option (edk2, MdeModulePkg/Library/UefiBootManagerLib and Universal/BdsDxe).
const BOOT_MANAGER: &str = "BdsDxe: ";

/// The accelerator of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accelerator {
    /// The processor's own virtualisation.
    Kvm,
    /// QEMU's translator: works everywhere, ten times slower.
    Tcg,
}

impl std::fmt::Display for Accelerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "TCG",
        })
    }
}

impl Accelerator {
    pub(crate) fn arguments(self) -> [&'static str; 4] {
        match self {
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
            // A small buffer for translated code, because QEMU discards it only when it is full.
            // After a restart, the code pages of the last kernel become data, and each write to one
            // searches its old translations. With a large buffer the firmware takes minutes, as if
            // it hung.
            //
            // No nested virtualisation, whose modules the guest would load. No fast string
            // operations, which QEMU executes byte by byte: without them the guest copies in
            // another way.
            Accelerator::Tcg => [
                "-accel",
                "tcg,thread=multi,tb-size=48",
                "-cpu",
                "max,svm=off,la57=off,erms=off,fsrm=off",
            ],
        }
    }
}

/// The accelerator that was chosen for a machine.
#[derive(Clone, Copy)]
pub(crate) struct ChosenAccelerator {
    pub(crate) accelerator: Accelerator,
    /// The choice that chose KVM, if it may choose TCG when KVM fails.
    pub(crate) choice: Option<&'static AcceleratorChoice>,
}

impl ChosenAccelerator {
    /// An accelerator that is not replaced when it fails.
    pub(crate) fn only(accelerator: Accelerator) -> ChosenAccelerator {
        ChosenAccelerator { accelerator, choice: None }
    }
}

/// The choice for all machines of this process: `LIFEBOAT_ACCEL` if it is set, else KVM until it
/// fails to run something, then TCG. Each choice is printed once on standard error, even if the
/// test harness captures the output of tests.
pub(crate) struct AcceleratorChoice {
    state: Mutex<State>,
}

struct State {
    /// The firmware that starts under KVM.
    runs: Vec<Firmware>,
    /// KVM has failed.
    without_kvm: bool,
    printed: Option<Accelerator>,
    print: fn(&str),
}

/// The result of trying a firmware.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It starts.
    ComesUp,
    /// It does not start, for this reason.
    Fails(String),
}

impl AcceleratorChoice {
    /// `print` prints a line.
    pub(crate) const fn new(print: fn(&str)) -> AcceleratorChoice {
        let state = State { runs: Vec::new(), without_kvm: false, printed: None, print };
        AcceleratorChoice { state: Mutex::new(state) }
    }

    pub(crate) fn of_this_run() -> &'static AcceleratorChoice {
        static CHOICE: AcceleratorChoice = AcceleratorChoice::new(print_past_the_harness);
        &CHOICE
    }

    /// The accelerator for a machine with this firmware. Each firmware is tried once under KVM.
    ///
    /// # Errors
    /// `LIFEBOAT_ACCEL` is neither `tcg` nor `kvm`, or QEMU or the firmware is not installed.
    pub(crate) fn choose(&'static self, firmware: Firmware) -> Result<ChosenAccelerator> {
        let forced = std::env::var("LIFEBOAT_ACCEL").ok();
        self.choose_with(forced.as_deref(), firmware, |firmware| {
            probe(Path::new("/dev/kvm"), firmware)
        })
    }

    fn choose_with(
        &'static self,
        forced: Option<&str>,
        firmware: Firmware,
        probe: impl FnOnce(Firmware) -> Result<Verdict>,
    ) -> Result<ChosenAccelerator> {
        // Other threads wait here until a probe has ended.
        let mut state = self.state();
        let accelerator = match forced {
            Some("tcg") => Accelerator::Tcg,
            Some("kvm") => Accelerator::Kvm,
            Some("") | None => return state.choose(self, firmware, probe),
            Some(other) => {
                return Err(Error::Description(format!(
                    "LIFEBOAT_ACCEL is {other:?}: use tcg or kvm"
                )));
            }
        };
        state.report(accelerator, "LIFEBOAT_ACCEL forces it");
        Ok(ChosenAccelerator::only(accelerator))
    }

    /// Makes all machines run under TCG from now on.
    pub(crate) fn give_up_kvm(&self, reason: &str) {
        let mut state = self.state();
        state.without_kvm = true;
        state.report(Accelerator::Tcg, reason);
    }

    #[cfg(test)]
    pub(crate) fn has_given_up_kvm(&self) -> bool {
        self.state().without_kvm
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn choose(
        &mut self,
        choice: &'static AcceleratorChoice,
        firmware: Firmware,
        probe: impl FnOnce(Firmware) -> Result<Verdict>,
    ) -> Result<ChosenAccelerator> {
        // SeaBIOS prints nothing on a serial console, and needs less than OVMF.
        let firmware = if firmware == Firmware::SeaBios { Firmware::Ovmf } else { firmware };
        if self.without_kvm {
            return Ok(ChosenAccelerator::only(Accelerator::Tcg));
        }
        if !self.runs.contains(&firmware) {
            match probe(firmware)? {
                Verdict::ComesUp => self.runs.push(firmware),
                Verdict::Fails(reason) => {
                    self.without_kvm = true;
                    self.report(Accelerator::Tcg, &reason);
                    return Ok(ChosenAccelerator::only(Accelerator::Tcg));
                }
            }
        }
        self.report(Accelerator::Kvm, "OVMF reaches its first boot option");
        Ok(ChosenAccelerator { accelerator: Accelerator::Kvm, choice: Some(choice) })
    }

    fn report(&mut self, accelerator: Accelerator, reason: &str) {
        let before = self.printed.replace(accelerator);
        if before != Some(accelerator) {
            let from = if before.is_some() { " from now on" } else { "" };
            (self.print)(&format!("machines run under {accelerator}{from}: {reason}"));
        }
    }
}

/// Prints a line directly, because the test harness captures the output of Rust's macros.
fn print_past_the_harness(line: &str) {
    // Nothing depends on this line.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Tries a firmware under KVM. The device of KVM may not exist.
fn probe(device: &Path, firmware: Firmware) -> Result<Verdict> {
    if !device.exists() {
        return Ok(Verdict::Fails(format!("{} does not exist", device.display())));
    }
    try_firmware(Accelerator::Kvm, firmware, deadline(PROBE))
}

/// Starts a machine that has only the firmware, and waits for its boot manager.
fn try_firmware(accelerator: Accelerator, firmware: Firmware, limit: Duration) -> Result<Verdict> {
    let builder = Builder::new("probe")?.firmware(firmware);
    let error =
        match Machine::start_under(builder, ChosenAccelerator::only(accelerator), None, limit) {
            Err(error @ (Error::MissingProgram { .. } | Error::MissingFile { .. })) => {
                return Err(error);
            }
            Err(error) => error,
            Ok(vm) => {
                let seen = vm.console().expect(BOOT_MANAGER, limit);
                let error = seen.err().map(|error| vm.process.failure("starting").unwrap_or(error));
                vm.process.kill();
                match error {
                    Some(error) => error,
                    None => return Ok(Verdict::ComesUp),
                }
            }
        };
    let reason = match error {
        Error::Accelerator { words, .. } => summary(&words),
        Error::Ended { words, .. } => {
            let mut lines = words.lines().filter(|line| !line.contains("warning:"));
            format!("QEMU ended: {}", lines.next().unwrap_or("without a message"))
        }
        Error::Deadline { limit, .. } => format!("not within {} s", limit.as_secs()),
        other => other.to_string(),
    };
    let name = match firmware {
        Firmware::OvmfSecureBoot => "OVMF with Secure Boot",
        Firmware::Ovmf | Firmware::SeaBios => "OVMF",
    };
    Ok(Verdict::Fails(format!("{name} does not start under {accelerator} ({reason})")))
}

/// QEMU's standard error from the line that reports an internal error of KVM (accel/kvm/kvm-all.c
/// and target/i386/kvm/kvm.c); `None` if no line does.
pub(crate) fn internal_error(stderr: &str) -> Option<&str> {
    let reports = ["KVM internal error", "KVM: entry failed", "kvm run failed"];
    let found = reports.iter().filter_map(|report| stderr.find(report)).min()?;
    let line = stderr[..found].rfind('\n').map_or(0, |end| end + 1);
    Some(&stderr[line..])
}

/// QEMU's message in one line.
pub(crate) fn summary(words: &str) -> String {
    let first = words.lines().next().unwrap_or_default();
    match words.lines().any(|line| line == "emulation failure") {
        true => format!("{first}, emulation failure"),
        false => first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
