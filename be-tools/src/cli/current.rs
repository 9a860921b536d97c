//! `be current`

use clap::Args;

use super::context::Context;
use super::headings::OUTPUT;
use super::output::{print_json, print_line};
use crate::discover;
use crate::error::{Error, Result};

/// Print the name of the running boot environment (lucurr)
#[derive(Debug, Args)]
pub struct Current {
    /// Print the one that boots next instead
    #[arg(long)]
    next: bool,
    /// Print everything that is known about it, as JSON
    #[arg(long, help_heading = OUTPUT, display_order = 100)]
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
            let system =
                if self.next { "what the firmware starts next" } else { "the running system" };
            return Err(Error::NotOnAnyDisk { system });
        };
        if self.json {
            print_json(environment)?
        } else {
            print_line(&environment.reference)?
        }
        Ok(0)
    }
}
