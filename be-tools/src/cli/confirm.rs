//! `be confirm`

use clap::Args;

use super::acting::Acting;
use super::context::Context;
use crate::error::Result;
use crate::escape::say;
use crate::operations::confirm::{self, Confirmed};
use crate::plan::{Plan, Report};

/// Make the running trial permanent
#[derive(Debug, Args)]
pub struct Confirm {
    /// Called by lifeboat-confirm.service: run the health checks first, and say at login if a trial
    /// failed
    #[arg(long, conflicts_with_all = ["dry_run", "json"])]
    unit: bool,
    #[command(flatten)]
    acting: Acting,
}

impl Confirm {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("confirm")?;
        let confirmed = if self.unit {
            confirm::confirm_at_boot(&context.host)?
        } else {
            if !context.unasked_report("confirm", &self.acting).confirm(&plan())? {
                return Ok(0);
            }
            confirm::confirm(&context.host)?
        };
        let said = match confirmed {
            Confirmed::Permanent(name) => format!("'{name}' came up and boots from now on."),
            Confirmed::NoTrial => "no trial is running: nothing to confirm".into(),
        };
        if !context.quiet {
            say(&said);
        }
        Ok(0)
    }
}

/// The steps are those of a trial that runs.
fn plan() -> Plan {
    Plan {
        title: "Make the running trial permanent".into(),
        steps: vec![
            "put the running boot environment's entry first in BootOrder".into(),
            "clear the record of the trial and the count of its attempts".into(),
        ],
        notes: vec!["where no trial is running, only the count of attempts is cleared".into()],
        ..Plan::default()
    }
}
