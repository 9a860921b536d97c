//! Text of foreign origin on a terminal and in a log: what a disk put into a name, a path or an
//! answer is shown and never obeyed.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;

/// Text as part of one line: what steers a terminal, ends a line or turns its direction is written
/// as an escape.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, steers, |safe, c| safe.extend(c.escape_default()))
}

/// The same for JSON, where line ends are between the values and none is in one.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    // All that steers has a code of four digits; JSON has no other escape.
    escape(text, |c| c != '\n' && steers(c), |safe, c| _ = write!(safe, "\\u{:04x}", u32::from(c)))
}

/// Says a line on standard error. eprintln would panic where nobody reads it, in the middle of an
/// operation.
pub(crate) fn say(text: &str) {
    // There is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

/// Says there what went wrong.
pub(crate) fn complain(text: &str) {
    say(&format!("be: {text}"));
}

fn steers(c: char) -> bool {
    // Line and paragraph separators, and the marks of Unicode's bidirectional algorithm (UAX #9,
    // 2).
    let turns = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || turns
}

fn escape(
    text: &str,
    is_wanted: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.contains(&is_wanted) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_wanted(c) { write(&mut safe, c) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_foreign_disk_wrote_is_shown_and_not_obeyed() {
        for (text, expected) in [
            ("plain ä text", "plain ä text"),
            ("a\x1b[2Jb\u{9b}1m\u{7f}", r"a\u{1b}[2Jb\u{9b}1m\u{7f}"),
            ("vmlinuz\nsecond ok\r\t", r"vmlinuz\nsecond ok\r\t"),
            ("exe\u{202e}gpj\u{2028}", r"exe\u{202e}gpj\u{2028}"),
        ] {
            assert_eq!(printable(text), expected);
        }
        assert!(matches!(printable("plain ä text"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_stays_json_and_says_the_same() {
        let value = serde_json::json!({ "spec": "a\u{9b}1m\u{7f}\x1b[2J\n\u{202e}\"\\ä" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let safe = json(&text);
        assert!(!safe.contains(|c| c != '\n' && steers(c)), "{safe}");
        assert!(safe.contains(r"a\u009b1m\u007f\u001b[2J\n\u202e"), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
