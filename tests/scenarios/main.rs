//! The slow tests: runs every scenario on every release and prints a table of the results.
//!
//! `cargo test -p tests --test scenarios -- [WORD…] [--release NAME] [--list]`

mod habit;
mod hostile_package;
mod image;
mod listing;
mod package;
mod printed;
mod refresh;
mod refusals;
mod rescue;
mod running;
mod schedule;
mod solaris;
mod sync;
mod trial;
mod upgrade;

use std::process::ExitCode;
use tests::table::{self, Scenario};

fn main() -> ExitCode {
    let scenarios: Vec<Scenario> = [
        running::SCENARIOS,
        listing::SCENARIOS,
        refresh::SCENARIOS,
        refusals::SCENARIOS,
        upgrade::SCENARIOS,
        hostile_package::SCENARIOS,
        schedule::SCENARIOS,
        solaris::SCENARIOS,
        package::SCENARIOS,
        printed::SCENARIOS,
        habit::SCENARIOS,
        sync::SCENARIOS,
        trial::SCENARIOS,
        rescue::SCENARIOS,
        image::SCENARIOS,
    ]
    .into_iter()
    .flatten()
    .copied()
    .collect();
    table::main(&scenarios)
}
