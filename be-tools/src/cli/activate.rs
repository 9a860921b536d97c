//! `be activate`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use super::output::{print_json, print_line};
use crate::discover;
use crate::error::Result;
use crate::operations::activate::{self, Activation};

/// Boot this one next: once, and for good when it confirms itself (luactivate)
#[derive(Debug, Args)]
pub struct Activate {
    /// Which one; without it, print what boots next
    be: Option<String>,
    /// From now on, without a trial
    #[arg(long)]
    permanent: bool,
    /// Even if a check says that it would not boot, or files of it were lost
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Activate {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("activate")?;
        let Some(be) = &self.be else {
            let inventory = discover::discover(&context.host)?;
            let next = inventory.environments.iter().find(|e| e.next_boot);
            if self.acting.json {
                print_json(&next)?;
            } else {
                print_line(next.map_or("none of the boot environments on the disks", |e| {
                    e.reference.as_str()
                }))?;
            }
            return Ok(0);
        };
        let activation = if self.permanent { Activation::Permanent } else { Activation::Trial };
        let mut report = context.report("activate", &self.acting);
        if let Some((name, activation)) =
            activate::activate(&context.host, be, activation, self.force, &mut report)?
        {
            report.say(&match activation {
                Activation::Permanent => {
                    format!("'{name}' boots from now on. Reboot when you are ready.")
                }
                Activation::Trial => format!(
                    "'{name}' is tried at the next boot; if it does not come up, the boot after \
                    that is as before. \
                     Reboot when you are ready."
                ),
            });
        }
        Ok(0)
    }
}
