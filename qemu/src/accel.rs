//! What runs the guest's instructions. That `/dev/kvm` opens proves nothing, nor does a guest that
//! speaks: nested hosts hang at the first instruction, or run SeaBIOS and stop in OVMF at one that
//! KVM cannot emulate. So the very firmware of a machine is tried before KVM is chosen.

use crate::host::deadline;
use crate::{Builder, Error, Firmware, Machine, Result};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Seconds until OVMF must have come up under KVM, which takes two to four.
const PROBE: u64 = 10;

/// What OVMF's boot manager begins every line with, on its way to the first boot option and where
/// there is none (edk2, MdeModulePkg/Library/UefiBootManagerLib and Universal/BdsDxe).
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
            // QEMU forgets what it has translated only when the buffer is full. After a restart the
            // pages of the last kernel are data, and each write to one looks through its old
            // translations: with a large buffer the firmware takes minutes, as if it hung. Without
            // nested virtualisation, whose modules the guest would load. Without fast string
            // operations: QEMU moves them byte by byte, and the guest takes another way to copy if
            // it has none.
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
    /// What chose KVM, where it may choose TCG when KVM gives up.
    pub(crate) choice: Option<&'static AcceleratorChoice>,
}

impl ChosenAccelerator {
    /// An accelerator that no other takes the place of.
    pub(crate) fn only(accelerator: Accelerator) -> ChosenAccelerator {
        ChosenAccelerator { accelerator, choice: None }
    }
}

/// The choice for all machines of this process: `LIFEBOAT_ACCEL` if set; KVM while it runs what it
/// is asked to run; TCG otherwise, and from then on. Each is said once on standard error, also
/// where the test harness keeps a test's output to itself.
pub(crate) struct AcceleratorChoice {
    state: Mutex<State>,
}

struct State {
    /// What comes up under KVM.
    runs: Vec<Firmware>,
    /// KVM did not run something.
    without_kvm: bool,
    said: Option<Accelerator>,
    print: fn(&str),
}

/// What trying a firmware came to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    ComesUp,
    /// It does not, and why.
    Fails(String),
}

impl AcceleratorChoice {
    /// `print` shows a line without its end.
    pub(crate) const fn new(print: fn(&str)) -> AcceleratorChoice {
        let state = State { runs: Vec::new(), without_kvm: false, said: None, print };
        AcceleratorChoice { state: Mutex::new(state) }
    }

    pub(crate) fn of_this_run() -> &'static AcceleratorChoice {
        static CHOICE: AcceleratorChoice = AcceleratorChoice::new(print_past_the_harness);
        &CHOICE
    }

    /// The accelerator of a machine with this firmware; under KVM each firmware is tried once.
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
        // Other threads wait here for the end of a probe.
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
        state.say(accelerator, "LIFEBOAT_ACCEL says so");
        Ok(ChosenAccelerator::only(accelerator))
    }

    /// From now on machines run under TCG.
    pub(crate) fn give_up_kvm(&self, reason: &str) {
        let mut state = self.state();
        state.without_kvm = true;
        state.say(Accelerator::Tcg, reason);
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
        // SeaBIOS says nothing on a serial console, and does less than OVMF.
        let firmware = if firmware == Firmware::SeaBios { Firmware::Ovmf } else { firmware };
        if self.without_kvm {
            return Ok(ChosenAccelerator::only(Accelerator::Tcg));
        }
        if !self.runs.contains(&firmware) {
            match probe(firmware)? {
                Verdict::ComesUp => self.runs.push(firmware),
                Verdict::Fails(reason) => {
                    self.without_kvm = true;
                    self.say(Accelerator::Tcg, &reason);
                    return Ok(ChosenAccelerator::only(Accelerator::Tcg));
                }
            }
        }
        self.say(Accelerator::Kvm, "OVMF reaches its first boot option");
        Ok(ChosenAccelerator { accelerator: Accelerator::Kvm, choice: Some(choice) })
    }

    fn say(&mut self, accelerator: Accelerator, reason: &str) {
        let before = self.said.replace(accelerator);
        if before != Some(accelerator) {
            let from = if before.is_some() { " from now on" } else { "" };
            (self.print)(&format!("machines run under {accelerator}{from}: {reason}"));
        }
    }
}

/// The test harness keeps what a test prints with Rust's macros, unless the test fails.
fn print_past_the_harness(line: &str) {
    // Nothing depends on it.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Tries a firmware under KVM, whose device may be missing.
fn probe(device: &Path, firmware: Firmware) -> Result<Verdict> {
    if !device.exists() {
        return Ok(Verdict::Fails(format!("there is no {}", device.display())));
    }
    try_firmware(Accelerator::Kvm, firmware, deadline(PROBE))
}

/// Starts a machine that has nothing but the firmware and waits for its boot manager.
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
            format!("QEMU ended: {}", lines.next().unwrap_or("without a word"))
        }
        Error::Deadline { limit, .. } => format!("not within {} s", limit.as_secs()),
        other => other.to_string(),
    };
    let name = match firmware {
        Firmware::OvmfSecureBoot => "OVMF with Secure Boot",
        Firmware::Ovmf | Firmware::SeaBios => "OVMF",
    };
    Ok(Verdict::Fails(format!("{name} does not come up under {accelerator} ({reason})")))
}

/// QEMU's words from the line on that reports an internal error of KVM (accel/kvm/kvm-all.c and
/// target/i386/kvm/kvm.c); nothing if none does.
pub(crate) fn internal_error(stderr: &str) -> Option<&str> {
    let reports = ["KVM internal error", "KVM: entry failed", "kvm run failed"];
    let found = reports.iter().filter_map(|report| stderr.find(report)).min()?;
    let line = stderr[..found].rfind('\n').map_or(0, |end| end + 1);
    Some(&stderr[line..])
}

/// QEMU's words in one line.
pub(crate) fn summary(words: &str) -> String {
    let first = words.lines().next().unwrap_or_default();
    match words.lines().any(|line| line == "emulation failure") {
        true => format!("{first}, emulation failure"),
        false => first.to_owned(),
    }
}

#[cfg(test)]
mod tests;
