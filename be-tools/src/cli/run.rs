//! `be run`

use std::ffi::OsString;

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::error::Result;
use crate::operations::run;

/// Run a command inside a boot environment, isolated from the running system
#[derive(Debug, Args)]
pub struct Run {
    /// The boot environment to run it in
    be: String,
    /// Let the command load kernel modules, set the clock and use raw devices
    #[arg(long)]
    privileged: bool,
    /// The command and its arguments
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Run {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("run")?;
        let acting = ActingOptions { dry_run: false, yes: true, json: false };
        let mut report = context.unasked_report("run", &acting).handed_over();
        let status = run::in_environment(
            &context.host,
            &self.be,
            self.privileged,
            &self.command,
            &mut report,
        )?;
        Ok(status.unwrap_or(0))
    }
}
