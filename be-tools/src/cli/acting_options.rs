//! The options that every verb that acts takes.

use clap::Args;

/// What every verb that acts takes.
#[derive(Debug, Args)]
pub(super) struct ActingOptions {
    /// Stop after the plan; nothing is written.
    #[arg(short = 'n', long)]
    pub(super) dry_run: bool,
    /// Do not ask: the plan is confirmed.
    #[arg(short, long)]
    pub(super) yes: bool,
    /// Print the plan, or the facts that were asked for, as JSON.
    #[arg(long)]
    pub(super) json: bool,
}
