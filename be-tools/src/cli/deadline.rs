//! `be deadline`, for lifeboat-deadline.service.

use std::time::Duration;

use clap::Args;

use super::Context;
use crate::error::Result;
use crate::trial;

/// Restart the machine if the trial of the running boot environment is not confirmed in time
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct Deadline {
    /// How long it has
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

impl Deadline {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("deadline")?;
        trial::deadline(&context.system, Duration::from_secs(self.minutes * 60))?;
        Ok(0)
    }
}
