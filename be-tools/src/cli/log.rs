//! The log of an operation: one file in `/var/log/lifeboat`, opened when the plan is confirmed.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use log::{LevelFilter, Metadata, Record};
use rustix::fs::StatFs;

use crate::error::{Doing, Result};
use crate::escape::{printable, say};

const DIRECTORY: &str = "/var/log/lifeboat";

struct Logger {
    file: Mutex<Option<File>>,
    /// Another file that gets the same lines, from the beginning.
    copy: Mutex<Option<File>>,
}

static LOGGER: Logger = Logger { file: Mutex::new(None), copy: Mutex::new(None) };

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

/// What the plan says about the log. In the rescue image it lies in memory.
pub(super) fn note_about(file: &Path) -> String {
    let there = file.ancestors().find_map(|path| rustix::fs::statfs(path).ok());
    let is_in_memory = there.as_ref().is_some_and(is_in_memory);
    let lasting = if is_in_memory {
        ", where it stays until the machine restarts: copy it to keep it"
    } else {
        ""
    };
    format!("a log of this operation is written to {}{lasting}", file.display())
}

/// Whether a file system lies in memory: a tmpfs, or the ramfs that an initramfs may be unpacked to
/// (linux/magic.h).
fn is_in_memory(file_system: &StatFs) -> bool {
    const TMPFS: u32 = 0x0102_1994;
    const RAMFS: u32 = 0x8584_58f6;
    // The type's width differs between architectures; all magic numbers have 32 bits.
    matches!(file_system.f_type as u32, TMPFS | RAMFS)
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

/// Appends what is noted from now on to this file too.
///
/// # Errors
/// It cannot be opened.
pub(super) fn copy_to(file: &Path) -> Result<()> {
    let opened = OpenOptions::new().create(true).append(true).open(file).at("opening", file)?;
    *LOGGER.copy.lock().unwrap_or_else(|e| e.into_inner()) = Some(opened);
    Ok(())
}

/// Writes a line into the log, if one is open.
pub(super) fn note(line: &str) {
    for file in [&LOGGER.file, &LOGGER.copy] {
        if let Some(file) = file.lock().unwrap_or_else(|e| e.into_inner()).as_mut() {
            let now = humantime::format_rfc3339_seconds(SystemTime::now());
            // If the log cannot be written, for example on a full disk, the operation continues.
            let _ = file.write_all(format!("{now} {}\n", printable(line)).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_says_if_its_log_is_lost_with_a_restart() {
        // /dev/shm is a tmpfs (shm_overview(7)), and the source of this test is on a disk.
        let note = |directory: &str| note_about(&Path::new(directory).join("none/x.log"));
        assert!(note("/dev/shm").ends_with("until the machine restarts: copy it to keep it"));
        let kept = note(env!("CARGO_MANIFEST_DIR"));
        assert!(kept.ends_with("be-tools/none/x.log"), "{kept}");
    }
}
