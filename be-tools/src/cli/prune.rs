//! `be prune`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use crate::error::Result;
use crate::operations::prune::{self, PruneRequest};

/// Delete old boot environments, and keep the newest
#[derive(Debug, Args)]
#[command(
    after_help = "Only complete ones count as kept. What runs, boots next, is on trial or mounted is \
        left alone, and named in the plan; so is what Lifeboat did not make.\n\nExamples:\n  \
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
        let request = PruneRequest { pattern: self.pattern, keep: self.keep };
        let mut report = context.report("prune", &self.acting);
        if let Some(deleted) = prune::prune(&context.host, &request, &mut report)? {
            if deleted.is_empty() {
                report.say("There is nothing to delete.");
                return Ok(0);
            }
            let names: Vec<String> = deleted.iter().map(|name| format!("'{name}'")).collect();
            let (names, verb) = (names.join(", "), if deleted.len() == 1 { "is" } else { "are" });
            report.say(&format!("{names} {verb} deleted."));
        }
        Ok(0)
    }
}
