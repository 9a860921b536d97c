//! Calendar events (systemd.time(7)), which systemd itself reads.

use crate::error::{Error, Result};
use crate::tool::{Tool, ToolError};

/// When an event is next, as systemd-analyze(1) says it.
///
/// # Errors
/// The text is not a calendar event, it is never again, or systemd-analyze is missing.
pub(super) fn next(calendar: &str) -> Result<String> {
    match Tool::new("systemd-analyze").args(["calendar", "--", calendar]).run() {
        Ok(printed) => parse(&printed).ok_or_else(|| {
            Error::Usage(format!("'{calendar}' is never again: name a time that comes"))
        }),
        Err(ToolError::Failed { .. }) => Err(Error::Usage(format!(
            "'{calendar}' is not a time for a timer: use a calendar event as in systemd.time(7), \
            such as 'daily', '02:30' or 'Mon..Fri 03:00'"
        ))),
        Err(why) => Err(why.into()),
    }
}

/// The line `    Next elapse: Tue 2026-12-01 02:30:00 UTC`.
fn parse(printed: &str) -> Option<String> {
    let line = printed.lines().find_map(|line| line.trim().strip_prefix("Next elapse: "))?;
    (line.trim() != "never").then(|| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_is_read() {
        let printed = "  Original form: 02:30\nNormalized form: *-*-* 02:30:00\n    \
            Next elapse: Tue 2026-12-01 02:30:00 UTC\n       From now: 15h left\n";
        assert_eq!(parse(printed).as_deref(), Some("Tue 2026-12-01 02:30:00 UTC"));
        assert_eq!(parse("    Next elapse: never\n"), None);
        assert_eq!(parse(""), None);
    }
}
