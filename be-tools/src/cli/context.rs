//! What every verb gets from the command line.

use super::acting_options::ActingOptions;
use super::report::Terminal;
use crate::error::{Refusal, Result};
use crate::host::Host;

/// What every verb gets.
pub(super) struct Context {
    pub(super) host: Host,
    pub(super) quiet: bool,
    pub(super) verbose: bool,
}

impl Context {
    /// The report of an operation on this terminal.
    pub(super) fn report(&self, verb: &'static str, acting: &ActingOptions) -> Terminal {
        Terminal::new(verb, acting, self.quiet, self.verbose)
    }

    /// The report of an operation that erases nothing and is undone as easily: its plan is shown
    /// only when it is asked for, and `--yes` is taken for granted.
    pub(super) fn unasked_report(&self, verb: &'static str, acting: &ActingOptions) -> Terminal {
        self.report(verb, acting).unasked()
    }

    /// The effective user is root.
    pub(super) fn need_root(&self, verb: &str) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            Ok(())
        } else {
            Err(Refusal::NotRoot { verb: verb.into() }.into())
        }
    }
}
