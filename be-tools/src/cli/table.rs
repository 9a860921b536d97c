//! Tables on a terminal: plain columns without lines, which are never cut.

use comfy_table::{ContentArrangement, Table, presets};

use super::output::print_line;
use crate::error::Result;
use crate::escape::printable;

/// An empty table with these headings.
pub(super) fn with_header(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|c| c.to_uppercase()));
    table
}

/// Adds a row. Line ends in a value are escaped, so that they do not look like another row.
pub(super) fn add<const N: usize>(table: &mut Table, cells: [String; N]) {
    table.add_row(cells.map(|cell| printable(&cell).into_owned()));
}

/// Seconds since 1970 as a cell: `2026-12-01 02:31`.
pub(super) fn time(seconds: u64) -> String {
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
    minute(&humantime::format_rfc3339_seconds(time).to_string())
}

/// A time of RFC 3339 as a cell, without its seconds.
pub(super) fn minute(text: &str) -> String {
    let text = text.replace('T', " ");
    text.get(..16).unwrap_or(&text).to_owned()
}

/// Prints a table.
pub(super) fn print(table: &Table) -> Result<()> {
    lines(table).try_for_each(|line| print_line(&line))
}

/// The lines of a table, without blanks at their ends and before the first column.
fn lines(table: &Table) -> impl Iterator<Item = String> {
    table.lines().map(|l| l.strip_prefix(' ').unwrap_or(&l).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_end_in_a_value_does_not_begin_a_row() {
        let mut table = with_header(&["name", "kernel"]);
        add(&mut table, ["first".into(), "6.1\nsecond 6.12".into()]);
        add(&mut table, ["second".into(), "\x1b[2J".into()]);
        let text: Vec<String> = lines(&table).collect();
        assert_eq!(text, ["NAME    KERNEL", r"first   6.1\nsecond 6.12", r"second  \u{1b}[2J"]);
    }
}
