//! What runs the guest's instructions. That `/dev/kvm` opens proves nothing: nested hosts hang at
//! the first guest instruction.

use crate::host::Tool;
use crate::{Error, Result};
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

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
pub(crate) struct Chosen {
    pub(crate) accelerator: Accelerator,
    /// What chose KVM, where it may choose TCG when KVM gives up.
    pub(crate) choice: Option<&'static Choice>,
}

impl Chosen {
    /// An accelerator that no other takes the place of.
    pub(crate) fn only(accelerator: Accelerator) -> Chosen {
        Chosen { accelerator, choice: None }
    }
}

/// The choice for all machines of this process: `LIFEBOAT_ACCEL` if set; KVM while it runs what it
/// is asked to run; TCG otherwise, and from then on. Each is said once on standard error, also
/// where the test harness keeps a test's output to itself.
pub(crate) struct Choice {
    state: Mutex<State>,
}

struct State {
    /// A guest came up under KVM.
    runs: bool,
    /// KVM did not run something.
    without_kvm: bool,
    said: Option<Accelerator>,
    print: fn(&str),
}

/// What trying KVM came to.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    ComesUp,
    /// It does not, and why.
    Fails(String),
}

impl Choice {
    /// `print` shows a line without its end.
    pub(crate) const fn new(print: fn(&str)) -> Choice {
        let state = State { runs: false, without_kvm: false, said: None, print };
        Choice { state: Mutex::new(state) }
    }

    pub(crate) fn of_this_run() -> &'static Choice {
        static CHOICE: Choice = Choice::new(print_past_the_harness);
        &CHOICE
    }

    /// The accelerator of the next machine; KVM is tried once.
    ///
    /// # Errors
    /// `LIFEBOAT_ACCEL` is neither `tcg` nor `kvm`.
    pub(crate) fn choose(&'static self) -> Result<Chosen> {
        let forced = std::env::var("LIFEBOAT_ACCEL").ok();
        self.choose_with(forced.as_deref(), || probe(Path::new("/dev/kvm")))
    }

    fn choose_with(
        &'static self,
        forced: Option<&str>,
        probe: impl FnOnce() -> Verdict,
    ) -> Result<Chosen> {
        // Other threads wait here for the end of a probe.
        let mut state = self.state();
        let accelerator = match forced {
            Some("tcg") => Accelerator::Tcg,
            Some("kvm") => Accelerator::Kvm,
            Some("") | None => return Ok(state.choose(self, probe)),
            Some(other) => {
                return Err(Error::Description(format!(
                    "LIFEBOAT_ACCEL is {other:?}: use tcg or kvm"
                )));
            }
        };
        state.say(accelerator, "LIFEBOAT_ACCEL says so");
        Ok(Chosen::only(accelerator))
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
    fn choose(&mut self, choice: &'static Choice, probe: impl FnOnce() -> Verdict) -> Chosen {
        if self.without_kvm {
            return Chosen::only(Accelerator::Tcg);
        }
        if !self.runs {
            if let Verdict::Fails(reason) = probe() {
                self.without_kvm = true;
                self.say(Accelerator::Tcg, &reason);
                return Chosen::only(Accelerator::Tcg);
            }
            self.runs = true;
        }
        self.say(Accelerator::Kvm, "SeaBIOS speaks under it");
        Chosen { accelerator: Accelerator::Kvm, choice: Some(choice) }
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

/// Tries SeaBIOS under KVM, whose device may be missing.
fn probe(device: &Path) -> Verdict {
    if !device.exists() {
        return Verdict::Fails(format!("there is no {}", device.display()));
    }
    match seabios_speaks(Accelerator::Kvm, Duration::from_secs(4)) {
        true => Verdict::ComesUp,
        false => Verdict::Fails("SeaBIOS says nothing under KVM".to_owned()),
    }
}

/// Starts a machine that has nothing but SeaBIOS and waits for its greeting on the debug port.
fn seabios_speaks(accelerator: Accelerator, limit: Duration) -> bool {
    let child = Tool::new("qemu-system-x86_64")
        .args(accelerator.arguments())
        .args(["-machine", "q35", "-m", "64", "-nodefaults", "-no-user-config", "-display", "none"])
        .args(["-chardev", "stdio,id=debug", "-device", "isa-debugcon,iobase=0x402,chardev=debug"])
        .spawn(Stdio::piped(), Stdio::null());
    let Ok(mut child) = child else { return false };
    let (sender, receiver) = mpsc::channel();
    if let Some(mut stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            let mut seen = Vec::new();
            let mut chunk = [0; 256];
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                seen.extend_from_slice(&chunk[..count]);
                if seen.windows(7).any(|w| w == b"SeaBIOS") {
                    let _ = sender.send(());
                    return;
                }
            }
        });
    }
    let spoke = receiver.recv_timeout(limit).is_ok();
    let _ = child.kill();
    // A guest that hangs inside the kernel may not die at once; it must not take us along.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(20));
    }
    spoke
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
