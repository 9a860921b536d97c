//! The log of an operation: one file in `/var/log/lifeboat`, opened when the plan is confirmed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use log::{LevelFilter, Metadata, Record};

use crate::escape::{printable, say};

const DIRECTORY: &str = "/var/log/lifeboat";

struct Logger {
    file: Mutex<Option<File>>,
}

static LOGGER: Logger = Logger { file: Mutex::new(None) };

impl log::Log for Logger {
    fn enabled(&self, _: &Metadata) -> bool {
        true
    }

    fn log(&self, record: &Record) {
        let line = record.args().to_string();
        if log::max_level() >= LevelFilter::Debug && !record.target().ends_with("note") {
            say(&format!("  [{}] {line}", record.level()));
        }
        note(&line);
    }

    fn flush(&self) {}
}

/// Starts to receive the records of the `log` crate. With `verbose` they are also printed.
pub(super) fn start(verbose: bool) {
    // A second call (in the multi-call binary, or a test) keeps the first logger, which is the
    // same.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
}

/// The path of the log of an operation that starts now.
pub(super) fn planned(verb: &str) -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let stamp: String = now.chars().filter(char::is_ascii_alphanumeric).collect();
    Path::new(DIRECTORY).join(format!("{stamp}-{verb}-{}.log", std::process::id()))
}

/// Opens the log. If that fails, a warning is printed and the operation continues.
pub(super) fn open(file: &Path) {
    let opened = std::fs::create_dir_all(DIRECTORY)
        .and_then(|()| OpenOptions::new().create_new(true).append(true).mode(0o640).open(file));
    match opened {
        Ok(opened) => *LOGGER.file.lock().unwrap_or_else(|e| e.into_inner()) = Some(opened),
        Err(e) => {
            say(&format!("warning: there is no log of this operation: {}: {e}", file.display()))
        }
    }
}

/// Writes a line into the log, if one is open.
pub(super) fn note(line: &str) {
    if let Some(file) = LOGGER.file.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        // If the log cannot be written, for example on a full disk, the operation continues.
        let _ = file.write_all(format!("{now} {}\n", printable(line)).as_bytes());
    }
}
