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
        "deadline" => Some(deadline(arguments)),
        _ => None,
    }
}

/// What lifeboat-deadline.service runs; the argument is the limit in seconds.
fn deadline(arguments: &[OsString]) -> ExitCode {
    let limit = arguments.first().and_then(|a| a.to_str()?.parse().ok()).unwrap_or(600);
    match crate::trial::deadline(&crate::system::System::host(), std::time::Duration::from_secs(limit)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("be: {e}");
            ExitCode::FAILURE
        }
    }
}
