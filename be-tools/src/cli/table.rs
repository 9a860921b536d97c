//! Tables on a terminal: plain columns, no lines, cut to nothing.

use comfy_table::{ContentArrangement, Table, presets};

use super::output::print_line;
use crate::error::Result;
use crate::escape::printable;

/// A table with this heading.
pub(super) fn with_header(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|c| c.to_uppercase()));
    table
}

/// Adds a row. A line end in a value must not look like another one.
pub(super) fn add<const N: usize>(table: &mut Table, cells: [String; N]) {
    table.add_row(cells.map(|cell| printable(&cell).into_owned()));
}

/// Prints it.
pub(super) fn print(table: &Table) -> Result<()> {
    lines(table).try_for_each(|line| print_line(&line))
}

/// Its lines, without blanks at their ends and without the blank column before the first.
fn lines(table: &Table) -> impl Iterator<Item = String> {
    table.lines().map(|l| l.strip_prefix(' ').unwrap_or(&l).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_no_row_of_its_own() {
        let mut table = with_header(&["name", "kernel"]);
        add(&mut table, ["first".into(), "6.1\nsecond 6.12".into()]);
        add(&mut table, ["second".into(), "\x1b[2J".into()]);
        let text: Vec<String> = lines(&table).collect();
        assert_eq!(text, ["NAME    KERNEL", r"first   6.1\nsecond 6.12", r"second  \u{1b}[2J"]);
    }
}
