//! Hidden verbs: parts of `be` that run in a process of their own. `be` starts them through
//! `/proc/self/exe`, systemd by a unit that `be` wrote, or what installs the program.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::escape::{complain, say};

/// Runs the hidden verb in these arguments, the first of which is the name of the program. `None`
/// if there is no hidden verb.
pub(super) fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let verb = args.get(1)?.to_str()?.strip_prefix("internal-")?;
    let arguments = &args[2..];
    match verb {
        "inside" => Some(crate::sandbox::helper(arguments)),
        "scan" => Some(crate::discover::serve()),
        "deadline" => Some(deadline(arguments)),
        "scheduled" => Some(scheduled(arguments)),
        "used" => Some(used()),
        "sync" => Some(sync()),
        "installed" => Some(installed(arguments)),
        _ => None,
    }
}

/// What lifeboat-deadline.service runs; the argument is the limit in seconds.
fn deadline(arguments: &[OsString]) -> ExitCode {
    let limit = arguments.first().and_then(|a| a.to_str()?.parse().ok()).unwrap_or(600);
    let limit = std::time::Duration::from_secs(limit);
    match crate::operations::confirm::deadline(&crate::host::Host::local(), limit, complain) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            complain(&e.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What lifeboat-used.service runs. In emergency mode nothing may be writable yet.
fn used() -> ExitCode {
    if let Err(e) = crate::operations::confirm::note_used(&crate::host::Host::local()) {
        complain(&e.to_string());
    }
    ExitCode::SUCCESS
}

/// What lifeboat-sync.service runs.
fn sync() -> ExitCode {
    match crate::operations::sync::at_boot(&crate::host::Host::local()) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(done)) => {
            done.warnings.iter().for_each(|warning| complain(warning));
            for path in &done.taken {
                say(&format!("{}: taken over from '{}'", path.display(), done.from));
            }
            for (path, why) in &done.kept {
                complain(&format!(
                    "{}: not taken over from '{}': {why}",
                    path.display(),
                    done.from
                ));
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            complain(&e.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What runs after the program was installed or updated; the argument is its path. /proc may be
/// missing.
fn installed(arguments: &[OsString]) -> ExitCode {
    let host = crate::host::Host::local();
    let program = arguments.first().map_or_else(|| host.program(), PathBuf::from);
    match crate::own_files::update(&host, &program) {
        Ok(done) => {
            done.iter().for_each(|done| println!("{done}"));
            ExitCode::SUCCESS
        }
        Err(e) => {
            complain(&e.to_string());
            ExitCode::FAILURE
        }
    }
}

/// What the service of a schedule runs; the argument is the id of the BE.
fn scheduled(arguments: &[OsString]) -> ExitCode {
    crate::signals::watch();
    let id = arguments.first().and_then(|id| id.to_str()).unwrap_or_default();
    match crate::operations::schedule::run(&crate::host::Host::local(), id) {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            complain(&e.to_string());
            ExitCode::from(e.exit_status())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_verbs_that_wrote_to_their_arguments_are_gone() {
        for verb in ["copy-tree", "refresh-tree", "copy-blocks"] {
            let arguments = ["be", &format!("internal-{verb}"), "/x", "/y"].map(OsString::from);
            assert!(dispatch(&arguments).is_none(), "{verb}");
        }
    }
}
