//! The machine's end: asked for by signal, as busybox's reboot(8) and poweroff(8) do, and done by
//! PID 1.

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sync};

use crate::consoles::Consoles;
use crate::{log as kernel_log, mounts, supervisor};

/// How long programs may take to end by themselves.
const GRACE: Duration = Duration::from_secs(5);

/// How long the disks may take to be released. One that is dead never is.
const RELEASE: Duration = Duration::from_secs(60);

/// How long that may take before somebody is told.
const SILENCE: Duration = Duration::from_secs(3);

/// What becomes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Restart through the firmware.
    Reboot,
    /// Switch off.
    Off,
}

impl Power {
    /// What PID 1 is asked by.
    fn signal(self) -> Signal {
        match self {
            Power::Reboot => Signal::SIGTERM,
            Power::Off => Signal::SIGUSR2,
        }
    }

    /// What a signal asks PID 1 for. SIGINT is Ctrl-Alt-Del, SIGUSR1 is halt(8).
    pub fn asked_by(signal: Signal) -> Option<Self> {
        match signal {
            Signal::SIGTERM | Signal::SIGINT => Some(Power::Reboot),
            Signal::SIGUSR1 | Signal::SIGUSR2 => Some(Power::Off),
            _ => None,
        }
    }

    /// Asks the supervisor.
    ///
    /// # Errors
    /// When the supervisor of the rescue image is not our parent.
    pub fn request(self) -> Result<(), String> {
        if std::env::var_os(crate::supervisor::SUPERVISED).is_none() {
            return Err(
                "only the rescue image itself can restart the machine from this menu".into()
            );
        }
        kill(Pid::from_raw(1), self.signal()).map_err(|why| format!("PID 1 cannot be asked: {why}"))
    }

    /// Ends every program, writes everything to disk, releases the disks, and does it. Returns only
    /// on failure.
    pub fn carry_out(self) -> Errno {
        log::info!(
            "{}",
            if self == Power::Reboot { "restarting the machine" } else { "switching off" }
        );
        end_all(Signal::SIGTERM, GRACE);
        end_all(Signal::SIGKILL, Duration::from_secs(1));
        await_release();
        let mode =
            if self == Power::Reboot { RebootMode::RB_AUTOBOOT } else { RebootMode::RB_POWER_OFF };
        match reboot(mode) {
            Err(why) => why,
            Ok(never) => match never {},
        }
    }
}

/// Has the disks released by a child, as that can block for ever, and goes on without those that do
/// not answer.
fn await_release() {
    let started = Instant::now();
    let mut child = match supervisor::child(&["release"]).spawn() {
        Ok(child) => child,
        Err(why) => {
            return log::error!("the disks are not released, as no child can be started: {why}");
        }
    };
    // The child has a moment to tell why.
    while started.elapsed() < RELEASE + Duration::from_secs(1) {
        match child.try_wait() {
            Ok(None) => sleep(Duration::from_millis(20)),
            Ok(Some(status)) if status.success() => return,
            Ok(Some(status)) => {
                return log::error!("the disks may not be released: the child ended with {status}");
            }
            Err(why) => return log::error!("the disks may not be released: {why}"),
        }
    }
    log::error!("the disks are not released after {} seconds: going on", RELEASE.as_secs());
}

/// What [`await_release`] starts: writes everything to disk, releases the disks, and tells whoever
/// waits.
pub fn release() -> ExitCode {
    kernel_log::start("release");
    let (sender, released) = mpsc::channel();
    thread::spawn(move || {
        sync();
        mounts::release_disks();
        sync();
        // Nobody waits any more when it was late.
        let _ = sender.send(());
    });
    let started = Instant::now();
    if released.recv_timeout(SILENCE).is_ok() {
        return ExitCode::SUCCESS;
    }
    let mut consoles = Consoles::open();
    consoles.say(&format!(
        "Waiting for the disks to be written, {} seconds at most.\n",
        RELEASE.as_secs()
    ));
    if released.recv_timeout(RELEASE.saturating_sub(started.elapsed())).is_ok() {
        return ExitCode::SUCCESS;
    }
    consoles.say("A disk does not answer: going on without it.\n");
    ExitCode::FAILURE
}

/// Sends a signal to all processes but PID 1 and waits until they are gone.
fn end_all(signal: Signal, grace: Duration) {
    let started = Instant::now();
    // ESRCH: there is nobody left.
    let mut somebody = kill(Pid::from_raw(-1), signal).is_ok();
    while somebody && started.elapsed() < grace {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => sleep(Duration::from_millis(20)),
            Ok(_) => {}
            Err(_) => somebody = false,
        }
    }
}
