//! `be confirm`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::error::Result;
use crate::escape::say;
use crate::operations::confirm::{self, Confirmation};

/// Make the running trial permanent
#[derive(Debug, Args)]
pub struct Confirm {
    /// Run the health checks first, and report failed trials at login; used by
    /// lifeboat-confirm.service
    #[arg(long, conflicts_with_all = ["dry_run", "json"])]
    unit: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Confirm {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("confirm")?;
        let confirmed = if self.unit {
            confirm::confirm_at_boot(&context.host)?
        } else {
            let mut report = context.unasked_report("confirm", &self.acting);
            let Some(confirmed) = confirm::confirm(&context.host, &mut report)? else {
                return Ok(0);
            };
            confirmed
        };
        let message = match confirmed {
            Confirmation::Permanent(name) => format!("'{name}' came up and boots from now on."),
            Confirmation::NoTrial => "no trial is running: nothing to confirm".into(),
        };
        if !context.quiet {
            say(&message);
        }
        Ok(0)
    }
}
