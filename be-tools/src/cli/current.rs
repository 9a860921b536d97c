//! `be current`

use clap::Args;

use super::context::Context;
use super::output::{print_json, print_line};
use crate::discover;
use crate::error::{Error, Result};

/// Print the running boot environment's name (lucurr)
#[derive(Debug, Args)]
pub struct Current {
    /// The one that boots next instead
    #[arg(long)]
    next: bool,
    /// Print everything that is known of it, as JSON
    #[arg(long)]
    json: bool,
}

impl Current {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("current")?;
        let inventory = discover::discover(&context.host)?;
        let found = if self.next {
            inventory.environments.iter().find(|e| e.next_boot)
        } else {
            inventory.running()
        };
        let Some(environment) = found else {
            let what =
                if self.next { "what the firmware starts next" } else { "the running system" };
            return Err(Error::Failed(format!(
                "{what} is none of the boot environments on the disks: `be list` shows those"
            )));
        };
        if self.json {
            print_json(environment)?
        } else {
            print_line(&environment.reference)?
        }
        Ok(0)
    }
}
