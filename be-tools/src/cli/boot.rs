//! `be boot`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::error::Result;
use crate::operations::boot;

/// Start a boot environment now, by kexec, without the firmware
#[derive(Debug, Args)]
pub struct Boot {
    /// The boot environment to start
    be: String,
    /// Start it even if several devices answer to its names, so that another system may come up, or
    /// if it is hibernated
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Boot {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("boot")?;
        let mut report = context.report("boot", &self.acting);
        boot::boot(&context.host, &self.be, self.force, &mut report)?;
        Ok(0)
    }
}
