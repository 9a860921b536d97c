//! `be activate`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use super::output::{print_json, print_line};
use crate::discover;
use crate::error::Result;
use crate::operations::activate::{self, Activation, SwitchOptions};
use crate::operations::sync::SyncChoice;

/// Choose the boot environment that boots next: on trial, and permanently once the trial is
/// confirmed (luactivate)
#[derive(Debug, Args)]
pub struct Activate {
    /// The boot environment; without it, print the one that boots next
    be: Option<String>,
    /// Boot it from now on, without a trial
    #[arg(long)]
    permanent: bool,
    /// Activate it even if a check says that it would not boot, or files could not be copied
    #[arg(long)]
    force: bool,
    /// Let it take accounts, mail and logs over from the running boot environment when it starts, as
    /// /etc/lifeboat/sync.list says; without this, a copy of the running one does so until a start
    /// of it is confirmed
    #[arg(long, conflicts_with = "no_sync")]
    sync: bool,
    /// Let it take nothing over
    #[arg(long)]
    no_sync: bool,
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
                print_line(next.map_or("not one of the boot environments on the disks", |e| {
                    e.reference.as_str()
                }))?;
            }
            return Ok(0);
        };
        let activation = if self.permanent { Activation::Permanent } else { Activation::Trial };
        let sync = match (self.sync, self.no_sync) {
            (true, _) => SyncChoice::Always,
            (_, true) => SyncChoice::Never,
            _ => SyncChoice::FirstStart,
        };
        let options = SwitchOptions { force: self.force, sync };
        let mut report = context.report("activate", &self.acting);
        if let Some((name, activation)) =
            activate::activate(&context.host, be, activation, options, &mut report)?
        {
            report.say(&said(&name, activation));
        }
        Ok(0)
    }
}

/// What an activation means.
pub(super) fn said(name: &str, activation: Activation) -> String {
    match activation {
        Activation::Permanent => format!("'{name}' boots from now on. Reboot when you are ready."),
        Activation::Trial => format!(
            "'{name}' will be tried at the next boot. If the trial fails, the boot after that is as \
            before. Reboot when you are ready."
        ),
    }
}
