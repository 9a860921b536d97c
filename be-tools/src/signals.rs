//! SIGINT, SIGTERM and SIGHUP. They only set a flag, which is checked between steps, so that `Drop`
//! can clean up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::sys;

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Set by SIGTERM and SIGHUP alone.
static TERMINATED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// How many [`Paused`] exist.
static PAUSED: AtomicUsize = AtomicUsize::new(0);

/// The exit status of an interrupted program.
const INTERRUPTED: i32 = 130;

/// Unblocks every signal of this thread, and so of all programs that it starts. Blocked signals are
/// inherited through fork(2) and execve(2), and `Command` does not reset them: a parent that blocks
/// SIGINT would otherwise take Ctrl-C from this program and from everything that it runs.
pub fn unblock() {
    // This fails only for arguments that the kernel does not know.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Starts to catch the signals. A second SIGINT or SIGTERM ends the program at once, except while
/// something is [`Paused`]. A second SIGHUP does not: when a connection is lost, both the shell and
/// the kernel send one.
pub fn watch() {
    let flag = FLAG.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // Registration fails only for signals that cannot be caught.
        if signal != SIGHUP {
            let _ = sys::exit_on_second(signal, INTERRUPTED, Arc::clone(flag), &PAUSED);
        }
        let _ = signal_hook::flag::register(signal, Arc::clone(flag));
        if signal != SIGINT {
            let terminated = TERMINATED.get_or_init(Arc::default);
            let _ = signal_hook::flag::register(signal, Arc::clone(terminated));
        }
    }
}

/// Whether one of the signals has arrived.
pub fn interrupted() -> bool {
    FLAG.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Whether a signal has arrived that no key sends: the program is to end, or its terminal is gone.
pub fn terminated() -> bool {
    TERMINATED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Something outside this program is paused, and only this program resumes it: a database, a file
/// system that is frozen. Until this is dropped, no second signal ends the program before that.
#[derive(Debug)]
pub(crate) struct Paused(());

impl Paused {
    pub(crate) fn begin() -> Self {
        PAUSED.fetch_add(1, Ordering::SeqCst);
        Paused(())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        PAUSED.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The line `SigBlk` of proc_pid_status(5), as a child of this thread sees its own.
    fn blocked_in_child() -> String {
        let script = ["-n", "s/^SigBlk:\\t//p", "/proc/self/status"];
        let output = Command::new("sed").args(script).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn a_child_inherits_no_blocked_signal() {
        let thread = std::thread::spawn(|| {
            sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).unwrap();
            let before = blocked_in_child();
            unblock();
            (before, blocked_in_child())
        });
        let (before, after) = thread.join().unwrap();
        assert_ne!(before, "0000000000000000");
        assert_eq!(after, "0000000000000000");
    }
}
