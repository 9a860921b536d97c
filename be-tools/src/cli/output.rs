//! Standard output: facts, as lines or as JSON.

use crate::error::{Error, Result};
use crate::escape::{json, printable};

/// Prints a value as JSON on standard output.
pub(super) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Failed(format!("writing JSON: {e}")))?;
    write_line(&json(&text))
}

/// Prints a line on standard output.
pub(super) fn print_line(text: &str) -> Result<()> {
    write_line(&printable(text))
}

/// A reader that went away is an end, not a failure.
fn write_line(text: &str) -> Result<()> {
    use std::io::Write;
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::Io { doing: "writing to standard output".into(), source: e })
        }
        _ => Ok(()),
    }
}
