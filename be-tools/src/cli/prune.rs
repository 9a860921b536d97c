//! `be prune`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::error::Result;
use crate::operations::prune::{self, PruneRequest};

/// Delete old boot environments, and keep the newest
#[derive(Debug, Args)]
#[command(
    after_help = "Only complete ones that this machine could start count as kept. What runs, boots \
        next, is on trial or mounted is left alone, and named in the plan; so is what Lifeboat did not \
        make, what has no boot entry here or is on a portable disk, and what `be delete` would refuse. \
        With --yes it waits for an operation in progress, at most six hours.\n\nExamples:\n  \
    be prune 'nightly-*' --keep 3\n  \
    be prune 'nightly-*' --keep 3 --yes --quiet    # from a timer"
)]
pub struct Prune {
    /// Their names, as a shell pattern: 'nightly-*'
    pattern: String,
    /// How many stay
    #[arg(long, value_name = "NUMBER")]
    keep: usize,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Prune {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("prune")?;
        let (pattern, keep, wait) = (self.pattern, self.keep, self.acting.yes);
        let request = PruneRequest { pattern, keep, wait };
        let mut report = context.report("prune", &self.acting);
        if let Some(deleted) = prune::prune(&context.host, &request, &mut report)? {
            if deleted.is_empty() {
                report.say("There is nothing to delete.");
                return Ok(report.status());
            }
            let names: Vec<String> = deleted.iter().map(|name| format!("'{name}'")).collect();
            let (names, verb) = (names.join(", "), if deleted.len() == 1 { "is" } else { "are" });
            report.say(&format!("{names} {verb} deleted."));
        }
        Ok(report.status())
    }
}
