//! Tables on a terminal: plain columns, no lines, cut to nothing.

use comfy_table::{ContentArrangement, Table, presets};

/// A table with this heading.
pub(super) fn with_header(columns: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|c| c.to_uppercase()));
    table
}

/// Its text, without blanks at line ends and without the blank column before the first.
pub(super) fn text(table: &Table) -> String {
    let lines: Vec<String> =
        table.lines().map(|l| l.strip_prefix(' ').unwrap_or(&l).trim_end().to_owned()).collect();
    lines.join("\n")
}
