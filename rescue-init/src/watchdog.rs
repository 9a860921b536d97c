//! The machine's watchdog (the kernel's Documentation/watchdog/watchdog-api.rst): hardware that
//! resets the machine unless a program writes to it now and then. A machine that fell back to this
//! image by itself comes back even if the kernel hangs.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::log as kernel_log;

const DEVICE: &str = "/dev/watchdog0";
const ATTRIBUTES: &str = "/sys/class/watchdog/watchdog0";

/// How many seconds lie between two writes. No driver waits less than ten by default.
const INTERVAL: i64 = 4;

/// Written last, it lets the close stop a watchdog that can be stopped.
const STOP: &[u8] = b"V";

/// Feeds the watchdog until this process is told to end, and then stops the watchdog: a kernel that
/// is started next may not know of it. A machine without one may get one later.
pub fn run() -> ExitCode {
    kernel_log::start("watchdog");
    match stop_signals().and_then(|signals| feed(&signals)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{DEVICE}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn feed(signals: &SignalFd) -> io::Result<()> {
    let mut device: Option<File> = None;
    loop {
        if device.is_none() && may_start(Path::new(ATTRIBUTES)) {
            device = Some(OpenOptions::new().write(true).open(DEVICE)?);
            log::info!("{DEVICE} is fed: the machine restarts if the kernel hangs");
        }
        if let Some(device) = &mut device {
            device.write_all(b"\0")?;
        }
        let interval = Timespec { tv_sec: INTERVAL, tv_nsec: 0 };
        // If poll fails, the watchdog is fed again.
        let _ = poll(&mut [PollFd::new(signals, PollFlags::IN)], Some(&interval));
        if matches!(signals.read_signal(), Ok(Some(_))) {
            return device.map_or(Ok(()), |mut device| device.write_all(STOP));
        }
    }
}

/// Whether the watchdog whose attributes these are should be fed: it runs already, because the
/// firmware or the last system has started it, or it can be started and stopped again.
fn may_start(attributes: &Path) -> bool {
    let has = |name: &str, value: &str| {
        fs::read_to_string(attributes.join(name)).is_ok_and(|text| text.trim() == value)
    };
    has("state", "active") || has("nowayout", "0")
}

/// Blocks the signals that PID 1 ends a program with, and makes them readable.
fn stop_signals() -> io::Result<SignalFd> {
    let set: SigSet = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT].into_iter().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&set), None)?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_watchdog_that_runs_or_can_be_stopped_is_fed() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, value: &str| fs::write(directory.path().join(name), value);
        assert!(!may_start(directory.path()));
        for (state, nowayout, expected) in [
            ("inactive\n", "0\n", true),
            ("inactive\n", "1\n", false),
            ("inactive\n", "", false),
            ("active\n", "1\n", true),
        ] {
            write("state", state).unwrap();
            write("nowayout", nowayout).unwrap();
            assert_eq!(may_start(directory.path()), expected, "{state:?} {nowayout:?}");
        }
    }
}
