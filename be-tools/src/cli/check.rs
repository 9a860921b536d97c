//! `be check`

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::headings::OUTPUT;
use super::output::{print_json, print_line};
use crate::discover;
use crate::environment::Problem;
use crate::error::Result;

/// Look for reasons why a boot environment would not boot; exit status 5 if there are any
#[derive(Debug, Args)]
pub struct Check {
    /// The boot environment; the running one if none is given
    be: Option<String>,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT, display_order = 100)]
    json: bool,
}

#[derive(Serialize)]
struct CheckResult<'a> {
    name: &'a str,
    problems: &'a [Problem],
}

impl Check {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("check")?;
        let inventory = discover::discover(&context.host)?;
        let environment = inventory.find_or_running(self.be.as_deref())?;
        let problems = environment.problems.as_slice();
        if self.json {
            print_json(&CheckResult { name: environment.name(), problems })?;
        } else if problems.is_empty() {
            print_line(&format!("'{}' has everything that it needs to boot.", environment.name()))?;
        } else {
            for problem in problems {
                print_line(&format!("{}: {problem}", environment.name()))?;
            }
        }
        Ok(if problems.is_empty() { 0 } else { 5 })
    }
}
