//! `be`: boot environments from the command line.
use std::process::ExitCode;

fn main() -> ExitCode {
    be_tools::cli::run(std::env::args_os())
}
