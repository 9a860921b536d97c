//! What every verb gets: the host, and the options of `be` itself.

use super::acting_options::ActingOptions;
use super::report::Terminal;
use crate::error::{Refusal, Result};
use crate::host::Host;

/// The host, and the options of `be` itself.
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

    /// The report of an operation that erases nothing and can easily be undone: its plan is shown
    /// only with `--dry-run` or `--json`, and it does not ask for confirmation.
    pub(super) fn unasked_report(&self, verb: &'static str, acting: &ActingOptions) -> Terminal {
        self.report(verb, acting).unasked()
    }

    /// Refuses an effective user other than root.
    pub(super) fn need_root(&self, verb: &str) -> Result<()> {
        if nix::unistd::geteuid().is_root() {
            Ok(())
        } else {
            Err(Refusal::NotRoot { verb: verb.into() }.into())
        }
    }
}
