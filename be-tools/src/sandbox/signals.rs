//! Waiting for a child, and passing signals on to it meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::arguments::NOT_PREPARED;
use crate::error::{Doing, Result};

/// Signals that are passed on.
pub(super) const ALL: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// The same without SIGINT, which a terminal sends to all processes by itself.
pub(super) const WITHOUT_TERMINALS: [i32; 2] = [SIGTERM, SIGHUP];

/// With this signal `be` has a command killed that goes beyond its limits. Only the child of `be`
/// handles it, because it has to clean up.
pub(super) const KILL_COMMAND: i32 = SIGQUIT;

/// How often signals are checked.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// With this exit status.
    Exited(u8),
    /// By a signal with this number.
    Killed(u8),
}

/// Keeps the signals from ending this process, which passes them on. Unlike SIG_IGN, a handler is
/// not inherited through exec.
///
/// # Errors
/// As sigaction(2).
pub(super) fn catch() -> Result<()> {
    for signal in ALL.into_iter().chain([KILL_COMMAND]) {
        signal_hook::flag::register(signal, Arc::default()).doing(|| "watching signals".into())?;
    }
    Ok(())
}

/// Waits for a child, and passes those of the signals that arrive meanwhile to `receiver`. On
/// [`KILL_COMMAND`] it kills the child. `idle` is called again and again, and waits for a moment.
pub(super) fn pass_until_end(
    child: Pid,
    receiver: Pid,
    passed: &[i32],
    mut idle: impl FnMut(),
) -> End {
    let flag = |signal: &i32| {
        let flag = Arc::new(AtomicBool::new(false));
        // This cannot fail: the same signal was registered before.
        let _ = signal_hook::flag::register(*signal, Arc::clone(&flag));
        (*signal, flag)
    };
    let flags: Vec<_> = passed.iter().chain([&KILL_COMMAND]).map(flag).collect();
    loop {
        // WNOHANG, because a signal that arrives just before a blocking wait would be noticed only
        // at its end.
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => {
                return End::Exited(u8::try_from(status).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return End::Killed(u8::try_from(signal as i32).unwrap_or(u8::MAX));
            }
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR) => {
                for (signal, flag) in &flags {
                    if flag.swap(false, Ordering::Relaxed) {
                        pass(*signal, child, receiver);
                    }
                }
                idle();
            }
            // An orphan, which PID 1 has to reap.
            Ok(_) => {}
            Err(_) => return End::Exited(NOT_PREPARED),
        }
    }
}

fn pass(signal: i32, child: Pid, receiver: Pid) {
    let (signal, receiver) = match Signal::try_from(signal) {
        Ok(_) if signal == KILL_COMMAND => (Signal::SIGKILL, child),
        Ok(signal) => (signal, receiver),
        Err(_) => return,
    };
    // This fails only if the receiver has just ended.
    let _ = nix::sys::signal::kill(receiver, signal);
}
