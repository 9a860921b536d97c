//! Logs to the kernel's log, `/dev/kmsg` (Documentation/ABI/testing/dev-kmsg).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::OnceLock;

use be_tools::escape::printable;
use log::{Level, LevelFilter, Log, Metadata, Record};

/// The kernel refuses longer records (`LOG_LINE_MAX` minus its own prefix).
const MAX_LENGTH: usize = 900;

#[derive(Debug)]
struct Kmsg {
    process: &'static str,
    file: Option<File>,
}

static KMSG: OnceLock<Kmsg> = OnceLock::new();

/// Sends what this process logs to the kernel's log as `lifeboat PROCESS: …`, or to standard error
/// if `/dev/kmsg` cannot be opened.
pub fn start(process: &'static str) {
    let open = || OpenOptions::new().write(true).open("/dev/kmsg").ok();
    let logger = KMSG.get_or_init(|| Kmsg { process, file: open() });
    if log::set_logger(logger).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for Kmsg {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= Level::Info
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let text = line(self.process, record.level(), &record.args().to_string());
        // One write is one record. A failure to write the log cannot be reported anywhere.
        let _ = match &self.file {
            Some(file) => (&mut &*file).write_all(text.as_bytes()),
            None => std::io::stderr().write_all(text.as_bytes()),
        };
    }

    fn flush(&self) {}
}

/// Formats a record: the priority of syslog(3), the process, and the message on a single line.
fn line(process: &str, level: Level, message: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let message = message.trim_end().replace('\n', " / ");
    // The kernel writes records to its consoles unescaped.
    let mut text = format!("<{priority}>lifeboat {process}: {}", printable(&message));
    if text.len() > MAX_LENGTH {
        let end = (0..=MAX_LENGTH).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_one_line_with_its_priority() {
        assert_eq!(
            line("init", Level::Warn, "a\nb\x1b[2J\n"),
            "<4>lifeboat init: a / b\\u{1b}[2J\n"
        );
    }

    #[test]
    fn a_long_message_is_truncated_between_characters() {
        let text = line("init", Level::Info, &"ä".repeat(2000));
        assert!(text.len() < 1000 && text.ends_with("ä…\n"));
    }
}
