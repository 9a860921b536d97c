//! Hidden verbs: parts of `be` that need a process of their own, started by itself through `/proc/self/exe`.

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the hidden verb that these arguments (the program's name first) name; `None` if they name none.
pub(super) fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let verb = args.get(1)?.to_str()?.strip_prefix("internal-")?;
    let arguments = &args[2..];
    match verb {
        "inside" => Some(crate::run::helper(arguments)),
        "scan" => Some(crate::discover::serve()),
        _ => None,
    }
}
