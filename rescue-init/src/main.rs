//! `rescue-init`: see [`rescue_init::run`].

use std::process::ExitCode;

fn main() -> ExitCode {
    rescue_init::run()
}
