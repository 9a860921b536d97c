//! SIGINT, SIGTERM and SIGHUP end the running command. Then `Drop` removes mounts and loop devices.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// Starts handling the signals. A second signal ends the program immediately.
pub fn watch() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    let listen = move || {
        for _ in signals.forever() {
            if INTERRUPTED.swap(true, Ordering::Relaxed) {
                std::process::exit(130);
            }
            end_running();
        }
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(listen)
        .context("starting a thread")?;
    Ok(())
}

/// Sets the process group that a signal ends. There is one at a time.
pub fn set_running(group: Option<Pid>) {
    *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) = group;
    if interrupted() {
        end_running();
    }
}

fn end_running() {
    if let Some(group) = *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) {
        // An error means that it has already exited.
        let _ = kill_process_group(group, Signal::TERM);
    }
}

/// Whether one of the signals has arrived.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Checks between two steps that no signal has arrived.
pub fn check() -> Result<()> {
    ensure!(!interrupted(), "interrupted");
    Ok(())
}
