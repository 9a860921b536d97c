//! Renders the output for a terminal as text.

use std::num::NonZero;

const ROWS: NonZero<u16> = NonZero::new(24).unwrap();
const COLUMNS: NonZero<u16> = NonZero::new(80).unwrap();

/// The lines that a terminal of 80 by 24 shows after `bytes`.
pub fn text(bytes: &[u8]) -> Vec<String> {
    let mut parser = vt100::Parser::new(ROWS, COLUMNS, 0);
    parser.process(bytes);
    let text = parser.screen().contents();
    let lines: Vec<String> = text.lines().map(|l| l.trim_end().to_owned()).collect();
    let end = lines.iter().rposition(|l| !l.is_empty()).map_or(0, |last| last + 1);
    lines[..end].to_vec()
}
