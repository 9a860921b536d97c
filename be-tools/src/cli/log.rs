//! The log of an operation: a file of its own in `/var/log/lifeboat`, opened once the plan is
//! confirmed.

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

/// Takes the records of the `log` crate from now on; `verbose` shows them as well.
pub(super) fn start(verbose: bool) {
    // A second start (the multi-call binary, a test) keeps the first logger, which is the same.
    let _ = log::set_logger(&LOGGER);
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
}

/// Where the log of an operation that starts now will be.
pub(super) fn planned(verb: &str) -> PathBuf {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let stamp: String = now.chars().filter(char::is_ascii_alphanumeric).collect();
    Path::new(DIRECTORY).join(format!("{stamp}-{verb}-{}.log", std::process::id()))
}

/// Opens it. A log that cannot be written is said and is no reason to stop.
pub(super) fn open(file: &Path) {
    let opened = std::fs::create_dir_all(DIRECTORY)
        .and_then(|()| OpenOptions::new().create_new(true).append(true).mode(0o640).open(file));
    match opened {
        Ok(opened) => *LOGGER.file.lock().unwrap_or_else(|e| e.into_inner()) = Some(opened),
        Err(e) => say(&format!("warning: no log of this operation: {}: {e}", file.display())),
    }
}

/// Writes a line into the log, if one is open.
pub(super) fn note(line: &str) {
    if let Some(file) = LOGGER.file.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
        let now = humantime::format_rfc3339_seconds(SystemTime::now());
        // A full disk must not end the operation for want of its log.
        let _ = file.write_all(format!("{now} {}\n", printable(line)).as_bytes());
    }
}
