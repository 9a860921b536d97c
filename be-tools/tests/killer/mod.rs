//! A report that interrupts the operation that it reports on, as a user does with Ctrl-C. The
//! signal affects the whole process, so each test that uses it is a program of its own.

#![allow(clippy::unwrap_used, reason = "a test")]

use be_tools::plan::{Plan, Progress, Report};

/// Sends SIGTERM once. A second one would end the program at once.
pub struct Killer {
    is_due: fn(&Progress) -> bool,
    sent: bool,
}

impl Killer {
    /// Sends the signal at the first progress for which `is_due` returns true.
    pub fn when(is_due: fn(&Progress) -> bool) -> Self {
        Killer { is_due, sent: false }
    }
}

impl Report for Killer {
    fn confirm(&mut self, _: &Plan) -> be_tools::Result<bool> {
        Ok(true)
    }
    fn step(&mut self, _: usize, _: &str) {}
    fn progress(&mut self, progress: &Progress) {
        if !self.sent && (self.is_due)(progress) {
            self.sent = true;
            let me = rustix::process::getpid();
            rustix::process::kill_process(me, rustix::process::Signal::TERM).unwrap();
        }
    }
    fn warn(&mut self, _: &str) {}
}
