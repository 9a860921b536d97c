//! Standard output: what was asked for, as lines or as JSON.

use crate::error::{Doing, Error, Result};
use crate::escape::{json, printable};

/// Prints a value as JSON on standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).doing(|| "writing JSON".into())?;
    write_line(&json(&text))
}

/// Prints a line on standard output.
pub(super) fn print_line(text: &str) -> Result<()> {
    write_line(&printable(text))
}

/// Writes a line. It is not an error if the reader has closed the pipe.
fn write_line(text: &str) -> Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { doing: "writing to standard output".into(), source: e })
        }
        _ => Ok(()),
    }
}
