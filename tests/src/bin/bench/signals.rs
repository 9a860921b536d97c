//! SIGINT, SIGTERM and SIGHUP end what is being measured; then `Drop` removes mounts and loop
//! devices.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<Option<Pid>> = Mutex::new(None);

/// Listens from now on. A second signal ends the program at once.
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

/// The process group that ends with this program. One at a time.
pub fn running(group: Option<Pid>) {
    *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) = group;
    if interrupted() {
        end_running();
    }
}

fn end_running() {
    if let Some(group) = *RUNNING.lock().unwrap_or_else(|e| e.into_inner()) {
        // It may have ended meanwhile, which is what is wanted.
        let _ = kill_process_group(group, Signal::TERM);
    }
}

/// One of the signals has arrived.
pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}

/// Stops between two steps once one has.
pub fn go_on() -> Result<()> {
    ensure!(!interrupted(), "interrupted");
    Ok(())
}
