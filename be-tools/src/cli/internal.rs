//! Hidden verbs: parts of `be` that need a process of their own, started by itself through
//! `/proc/self/exe`, and the copy engine alone, for benchmarks and tests.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use crate::block_copy;
use crate::copy::{self, Mode, Trust};
use crate::error::Error;
use crate::escape::{complain, say};
use crate::plan::Silent;
use crate::timestamp::Timestamp;
use crate::tree::exclude::Exclude;

/// Runs the hidden verb that these arguments (the program's name first) name; `None` if they name
/// none.
pub(super) fn dispatch(args: &[OsString]) -> Option<ExitCode> {
    let verb = args.get(1)?.to_str()?.strip_prefix("internal-")?;
    let arguments = &args[2..];
    match verb {
        "inside" => Some(crate::sandbox::helper(arguments)),
        "scan" => Some(crate::discover::serve()),
        "deadline" => Some(deadline(arguments)),
        "copy-blocks" => Some(copy_blocks(arguments)),
        "copy-tree" => Some(copy_tree(verb, arguments, Mode::Fresh)),
        "refresh-tree" => {
            let trust = Trust { complete: Some(Timestamp::now()), ..Trust::default() };
            Some(copy_tree(verb, arguments, Mode::Refresh(trust)))
        }
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

/// `SOURCE_DEVICE TARGET_DEVICE`: the used blocks of an unmounted file system, with a UUID of its
/// own and no label.
fn copy_blocks(arguments: &[OsString]) -> ExitCode {
    let [source, target] = arguments else {
        say("usage: be internal-copy-blocks SOURCE_DEVICE TARGET_DEVICE");
        return ExitCode::from(2);
    };
    crate::signals::watch();
    let request = block_copy::Request {
        source: Path::new(source),
        target: Path::new(target),
        identity: block_copy::Identity { uuid: uuid::Uuid::new_v4(), label: String::new() },
        edits: Vec::new(),
    };
    match block_copy::copy(&request, &mut Silent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// `SOURCE TARGET`: all of the file system mounted at one directory into another one, which exists.
/// To refresh it, it is an earlier copy in which nothing was changed since.
fn copy_tree(verb: &str, arguments: &[OsString], mode: Mode) -> ExitCode {
    let [source, target] = arguments else {
        say(&format!("usage: be internal-{verb} SOURCE TARGET"));
        return ExitCode::from(2);
    };
    crate::signals::watch();
    let request = copy::Request {
        source: Path::new(source),
        target: Path::new(target),
        from: Path::new(""),
        to: Path::new(""),
        mountpoint: Path::new("/"),
        exclude: Exclude::nothing(),
        mode,
        two_pass: false,
        totals: None,
    };
    match copy::copy_tree(&request, &mut Silent) {
        Ok(done) if done.lost.is_empty() && done.not_representable.is_empty() => ExitCode::SUCCESS,
        Ok(done) => {
            let lost = done.lost.iter().map(|path| format!("lost: {}", path.display()));
            let changed = done
                .not_representable
                .iter()
                .map(|(path, why)| format!("{}: {why}", path.display()));
            lost.chain(changed).for_each(|line| say(&line));
            ExitCode::from(4)
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    complain(&error.to_string());
    ExitCode::from(error.exit_status())
}
