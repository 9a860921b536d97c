//! The options of every verb that acts.

use clap::Args;

use super::headings::{OUTPUT, PLAN};

/// The options of every verb that acts.
#[derive(Debug, Args)]
#[command(next_help_heading = PLAN)]
pub(super) struct ActingOptions {
    /// Print the plan and stop; nothing is written.
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Print the plan, or what was asked for, as JSON.
    #[arg(long, help_heading = OUTPUT, display_order = 100)]
    pub(super) json: bool,
}
