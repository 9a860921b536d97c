//! `be cancel`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::error::Result;
use crate::operations::cancel;

/// End what is in progress on a boot environment, or scheduled for it (lucancel)
#[derive(Debug, Args)]
#[command(
    after_help = "What is in progress ends as by Ctrl-C: it is safe, and what it leaves incomplete \
        says so. A timer of `be schedule` is removed. It asks only before it interrupts an upgrade."
)]
pub struct Cancel {
    /// The boot environment
    be: String,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Cancel {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("cancel")?;
        let mut report = context.unasked_report("cancel", &self.acting);
        if let Some(state) = cancel::cancel(&context.host, &self.be, &mut report)? {
            report.say(&format!("'{}' is {state}.", self.be));
        }
        Ok(0)
    }
}
