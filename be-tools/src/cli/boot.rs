//! `be boot`

use clap::Args;

use super::{Acting, Context};
use crate::discover;
use crate::error::Result;
use crate::kexec;

/// Start a boot environment now, by kexec, without the firmware
#[derive(Debug, Args)]
pub struct Boot {
    /// Which one
    be: String,
    #[command(flatten)]
    acting: Acting,
}

impl Boot {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("boot")?;
        let inventory = discover::discover(&context.system)?;
        let environment = inventory.find(&self.be)?;
        let mut report = context.report("boot", &self.acting);
        kexec::boot(&context.system, &inventory, environment, &mut report)?;
        Ok(0)
    }
}
