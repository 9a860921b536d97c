//! The command line of `be`: one file a verb.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `be` with these arguments, the program's name first.
pub fn run(_args: impl IntoIterator<Item = OsString>) -> ExitCode {
    crate::signals::watch();
    ExitCode::from(2)
}
