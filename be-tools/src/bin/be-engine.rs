//! The copy engine alone, for benchmarks and tests: it asks nothing before it erases, so it is a
//! program of its own that is not shipped.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use be_tools::block_copy;
use be_tools::copy::{self, Mode, Trust};
use be_tools::error::Error;
use be_tools::escape::printable;
use be_tools::plan::Silent;
use be_tools::storage::device::BlockDevice;
use be_tools::storage::hold::Hold;
use be_tools::timestamp::Timestamp;
use be_tools::tree::exclude::Exclude;

fn main() -> ExitCode {
    be_tools::signals::watch();
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first().and_then(|(verb, rest)| Some((verb.to_str()?, rest))) {
        Some(("copy-blocks", rest)) => copy_blocks(rest),
        Some((verb @ "copy-tree", rest)) => copy_tree(verb, rest, Mode::Fresh),
        Some((verb @ "refresh-tree", rest)) => {
            let trust = Trust { complete: Some(Timestamp::now()), ..Trust::default() };
            copy_tree(verb, rest, Mode::Refresh(trust))
        }
        _ => {
            eprintln!("usage: be-engine copy-tree|refresh-tree|copy-blocks SOURCE TARGET");
            ExitCode::from(2)
        }
    }
}

/// `SOURCE_DEVICE TARGET_DEVICE`: the used blocks of an unmounted file system, with a UUID of its
/// own and no label.
fn copy_blocks(arguments: &[OsString]) -> ExitCode {
    let [source, target] = arguments else {
        eprintln!("usage: be-engine copy-blocks SOURCE_DEVICE TARGET_DEVICE");
        return ExitCode::from(2);
    };
    let copied = BlockDevice::at(Path::new(target)).and_then(|device| {
        let request = block_copy::BlockCopyRequest {
            source: Path::new(source),
            target: &Hold::take(&device)?,
            identity: block_copy::Identity { uuid: uuid::Uuid::new_v4(), label: String::new() },
            edits: Vec::new(),
        };
        block_copy::copy(&request, &mut Silent)
    });
    match copied {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

/// `SOURCE TARGET`: all of the file system mounted at one directory into another one, which exists.
/// To refresh it, it is an earlier copy in which nothing was changed since.
fn copy_tree(verb: &str, arguments: &[OsString], mode: Mode) -> ExitCode {
    let [source, target] = arguments else {
        eprintln!("usage: be-engine {verb} SOURCE TARGET");
        return ExitCode::from(2);
    };
    let request = copy::CopyRequest {
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
            lost.chain(changed).for_each(|line| eprintln!("{}", printable(&line)));
            ExitCode::from(4)
        }
        Err(error) => failed(&error),
    }
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("be-engine: {}", printable(&error.to_string()));
    ExitCode::from(error.exit_status())
}
