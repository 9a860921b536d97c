//! Restart, power-off and the start of a loaded kernel: requested by a signal, as busybox's
//! reboot(8) and poweroff(8) do, and carried out by PID 1.

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sync};

use crate::child::{self, SUPERVISED};
use crate::consoles::Consoles;
use crate::{log as kernel_log, mounts};

/// What ends a process that may clean up. An interactive shell ignores SIGTERM and obeys SIGHUP. A
/// stopped process acts on neither until it is continued.
const GENTLE: [Signal; 3] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCONT];

/// How long processes may take to exit on [`GENTLE`].
const GRACE_PERIOD: Duration = Duration::from_secs(5);

/// How long the disks may take to be released. A dead disk never is.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long that may take before a message is printed.
const NOTICE_DELAY: Duration = Duration::from_secs(3);

/// A way to shut the machine down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Restart through the firmware.
    Reboot,
    /// Power off.
    Off,
    /// Start the kernel that is loaded, without the firmware (kexec).
    LoadedKernel,
}

impl Power {
    /// The signal that requests it from PID 1.
    fn signal(self) -> Signal {
        match self {
            Power::Reboot => Signal::SIGTERM,
            Power::Off => Signal::SIGUSR2,
            Power::LoadedKernel => Signal::SIGHUP,
        }
    }

    /// What a signal to PID 1 requests. SIGINT is Ctrl-Alt-Del, SIGUSR1 is halt(8), and SIGHUP is
    /// what `be boot` sends.
    pub fn from_signal(signal: Signal) -> Option<Self> {
        match signal {
            Signal::SIGTERM | Signal::SIGINT => Some(Power::Reboot),
            Signal::SIGUSR1 | Signal::SIGUSR2 => Some(Power::Off),
            Signal::SIGHUP => Some(Power::LoadedKernel),
            _ => None,
        }
    }

    /// Whether it can be done: a kernel that is not loaded cannot be started.
    pub fn is_possible(self) -> bool {
        self != Power::LoadedKernel
            || std::fs::read_to_string("/sys/kernel/kexec_loaded").is_ok_and(|it| it.trim() == "1")
    }

    fn description(self) -> &'static str {
        match self {
            Power::Reboot => "restarting the machine",
            Power::Off => "powering off",
            Power::LoadedKernel => "starting the loaded kernel",
        }
    }

    /// Requests it from the supervisor, or on an installed system from its own PID 1.
    ///
    /// # Errors
    /// PID 1 does not accept it.
    pub fn request(self) -> Result<(), String> {
        if std::env::var_os(SUPERVISED).is_none() {
            let program = if self == Power::Off { "poweroff" } else { "reboot" };
            let status = child::command(program).status();
            return match status {
                Ok(status) if status.success() => Ok(()),
                Ok(status) => Err(format!("`{program}` failed ({status})")),
                Err(error) => Err(format!("`{program}` cannot be started: {error}")),
            };
        }
        kill(Pid::from_raw(1), self.signal())
            .map_err(|error| format!("PID 1 cannot be signalled: {error}"))
    }

    /// Ends all processes, releases the disks, and restarts or powers off the machine. Returns only
    /// on failure.
    pub fn carry_out(self) -> Errno {
        log::info!("{}", self.description());
        end_all(&GENTLE, GRACE_PERIOD);
        end_all(&[Signal::SIGKILL], Duration::from_secs(1));
        await_release();
        let mode = match self {
            Power::Reboot => RebootMode::RB_AUTOBOOT,
            Power::Off => RebootMode::RB_POWER_OFF,
            Power::LoadedKernel => RebootMode::RB_KEXEC,
        };
        match reboot(mode) {
            Err(error) => error,
            Ok(never) => match never {},
        }
    }
}

/// Releases the disks in a child, because that can block forever, and gives up on disks that do not
/// respond.
fn await_release() {
    let started = Instant::now();
    let mut child = match child::child(&["release"]).spawn() {
        Ok(child) => child,
        Err(error) => {
            return log::error!("the disks are not released: no child can be started: {error}");
        }
    };
    // The extra second lets the child report the reason.
    while started.elapsed() < RELEASE_TIMEOUT + Duration::from_secs(1) {
        match child.try_wait() {
            Ok(None) => sleep(Duration::from_millis(20)),
            Ok(Some(status)) if status.success() => return,
            Ok(Some(status)) => {
                return log::error!("the disks may not be released: the child failed: {status}");
            }
            Err(error) => return log::error!("the disks may not be released: {error}"),
        }
    }
    log::error!(
        "the disks are not released after {} seconds; continuing",
        RELEASE_TIMEOUT.as_secs()
    );
}

/// The child that [`await_release`] starts: syncs and unmounts the disks. Its exit status says
/// whether they were released.
pub fn release() -> ExitCode {
    kernel_log::start("release");
    let (sender, released) = mpsc::channel();
    thread::spawn(move || {
        sync();
        mounts::release_disks();
        sync();
        // The receiver is gone if this took too long.
        let _ = sender.send(());
    });
    let started = Instant::now();
    if released.recv_timeout(NOTICE_DELAY).is_ok() {
        return ExitCode::SUCCESS;
    }
    let mut consoles = Consoles::open();
    consoles.say(&format!(
        "Waiting up to {} seconds for data to be written to the disks.\n",
        RELEASE_TIMEOUT.as_secs()
    ));
    if released.recv_timeout(RELEASE_TIMEOUT.saturating_sub(started.elapsed())).is_ok() {
        return ExitCode::SUCCESS;
    }
    consoles.say("A disk does not respond. Continuing without it.\n");
    ExitCode::FAILURE
}

/// Sends signals to all processes except PID 1 and waits until they have exited.
fn end_all(signals: &[Signal], grace: Duration) {
    let started = Instant::now();
    let mut any_left = true;
    for signal in signals {
        // ESRCH: no process is left.
        any_left = kill(Pid::from_raw(-1), *signal).is_ok();
    }
    while any_left && started.elapsed() < grace {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => sleep(Duration::from_millis(20)),
            Ok(_) => {}
            Err(_) => any_left = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_understood() {
        for power in [Power::Reboot, Power::Off, Power::LoadedKernel] {
            assert_eq!(Power::from_signal(power.signal()), Some(power));
        }
        // Ctrl-Alt-Del, and halt(8).
        assert_eq!(Power::from_signal(Signal::SIGINT), Some(Power::Reboot));
        assert_eq!(Power::from_signal(Signal::SIGUSR1), Some(Power::Off));
        assert_eq!(Power::from_signal(Signal::SIGCHLD), None);
    }
}
