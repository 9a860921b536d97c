//! `be check`

use clap::Args;
use serde::Serialize;

use super::context::Context;
use super::output::{print_json, print_line};
use crate::discover;
use crate::environment::Problem;
use crate::error::Result;

/// Say why a boot environment would not boot; exit status 5 if it would not
#[derive(Debug, Args)]
pub struct Check {
    /// Which one; the running one if none is given
    be: Option<String>,
    /// As JSON
    #[arg(long)]
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
            print_line(&format!("'{}' has all it needs to boot.", environment.name()))?;
        } else {
            for problem in problems {
                print_line(&format!("{}: {problem}", environment.name()))?;
            }
        }
        Ok(if problems.is_empty() { 0 } else { 5 })
    }
}
