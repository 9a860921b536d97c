//! `be confirm`

use clap::Args;

use super::{Context, printable};
use crate::error::Result;
use crate::trial::{self, Confirmed};

/// Make the running trial permanent
#[derive(Debug, Args)]
pub struct Confirm {
    /// Called by lifeboat-confirm.service: run the health checks first, and say at login if a trial failed
    #[arg(long)]
    unit: bool,
}

impl Confirm {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("confirm")?;
        let confirmed = if self.unit {
            trial::confirm_at_boot(&context.system)?
        } else {
            trial::confirm(&context.system)?
        };
        let said = match confirmed {
            Confirmed::Permanent(name) => format!("'{name}' came up and boots from now on."),
            Confirmed::NoTrial => "no trial is running: nothing to confirm".into(),
        };
        if !context.quiet {
            eprintln!("{}", printable(&said));
        }
        Ok(0)
    }
}
