//! The command line of `be`: one file a verb.

mod internal;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs `be` with these arguments, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(status) = internal::dispatch(&args) {
        return status;
    }
    crate::signals::watch();
    ExitCode::from(2)
}
