//! SIGINT, SIGTERM and SIGHUP: noted, and looked at between steps, so that `Drop` cleans up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// Notes the signals from now on. A second SIGINT or SIGTERM ends the program at once; SIGHUP comes
/// twice by itself when a connection is lost, from the shell and from the kernel.
pub fn watch() {
    let flag = FLAG.get_or_init(Arc::default);
    for signal in
        [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
    {
        // Registration fails for forbidden signals only, and these are not.
        if signal != signal_hook::consts::SIGHUP {
            let _ = signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(flag));
        }
        let _ = signal_hook::flag::register(signal, Arc::clone(flag));
    }
}

/// One of the signals has arrived.
pub fn interrupted() -> bool {
    FLAG.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}
