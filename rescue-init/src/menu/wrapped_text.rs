//! Text as rows of a window that can be scrolled.

use std::cell::Cell;

use be_tools::escape::printable;
use ratatui::text::Span;

/// How many columns a text takes.
pub fn columns(text: &str) -> usize {
    Span::raw(text).width()
}

/// Breaks text at spaces into rows that are at most `width` columns wide. A word that is wider is
/// broken too. Control characters are shown as escapes.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let (mut rows, mut row) = (Vec::new(), String::new());
    for word in printable(text).split_whitespace() {
        if !row.is_empty() {
            if columns(&row) + 1 + columns(word) <= width {
                row.push(' ');
            } else {
                rows.push(std::mem::take(&mut row));
            }
        }
        for c in word.chars() {
            let is_full = columns(&row) + columns(c.encode_utf8(&mut [0; 4])) > width;
            if is_full && !row.is_empty() {
                rows.push(std::mem::take(&mut row));
            }
            row.push(c);
        }
    }
    if !row.is_empty() || rows.is_empty() {
        rows.push(row);
    }
    rows
}

/// The first `count` rows, of `width` columns. If there are more, the last one ends with `…`.
pub fn at_most(mut rows: Vec<String>, count: usize, width: usize) -> Vec<String> {
    if rows.len() > count {
        rows.truncate(count);
        if let Some(last) = rows.last_mut() {
            *last = shortened(last, width.saturating_sub(1)) + "…";
        }
    }
    rows
}

/// The beginning of a text that fits into `width` columns.
pub fn shortened(text: &str, width: usize) -> String {
    let mut start = String::new();
    for c in text.chars() {
        start.push(c);
        if columns(&start) > width {
            start.pop();
            break;
        }
    }
    start
}

/// How far a window is scrolled down, in rows. Keys move it freely, and drawing limits it to what
/// the window has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scroll(Cell<usize>);

impl Scroll {
    /// Scrolls by a number of rows; up if it is negative.
    pub fn by(&self, rows: isize) {
        self.0.set(self.0.get().saturating_add_signed(rows));
    }

    /// Scrolls back to the first row.
    pub fn to_first(&self) {
        self.0.set(0);
    }

    /// The number of rows above the window, of at most `max`.
    pub fn within(&self, max: usize) -> usize {
        self.0.set(self.0.get().min(max));
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_spaces_and_loses_nothing() {
        for (text, width, expected) in [
            ("", 5, vec![""]),
            ("ab cd ef", 5, vec!["ab cd", "ef"]),
            ("abcdefgh ij", 3, vec!["abc", "def", "gh", "ij"]),
            ("a\x1bb", 20, vec![r"a\u{1b}b"]),
            // Each of these characters takes two columns.
            ("漢字漢字", 5, vec!["漢字", "漢字"]),
            ("漢", 1, vec!["漢"]),
            ("ab", 0, vec!["a", "b"]),
        ] {
            assert_eq!(wrap(text, width), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_left_out_is_marked() {
        let rows = || wrap("abc def ghi", 3);
        assert_eq!(at_most(rows(), 3, 3), ["abc", "def", "ghi"]);
        assert_eq!(at_most(rows(), 2, 3), ["abc", "de…"]);
    }

    #[test]
    fn a_window_scrolls_no_further_than_its_rows() {
        let scroll = Scroll::default();
        scroll.by(30);
        assert_eq!(scroll.within(4), 4);
        scroll.by(-1);
        assert_eq!(scroll.within(4), 3);
        scroll.by(-9);
        assert_eq!(scroll.within(4), 0);
    }
}
