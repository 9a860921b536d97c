//! SIGINT, SIGTERM and SIGHUP. They only set a flag, which is checked between steps, so that `Drop`
//! can clean up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Set by SIGTERM and SIGHUP alone.
static TERMINATED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Starts to catch the signals. A second SIGINT or SIGTERM ends the program at once. A second
/// SIGHUP does not: when a connection is lost, both the shell and the kernel send one.
pub fn watch() {
    let flag = FLAG.get_or_init(Arc::default);
    for signal in
        [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
    {
        // Registration fails only for signals that cannot be caught.
        if signal != signal_hook::consts::SIGHUP {
            let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag));
        }
        let _ = signal_hook::flag::register(signal, Arc::clone(flag));
        if signal != signal_hook::consts::SIGINT {
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
