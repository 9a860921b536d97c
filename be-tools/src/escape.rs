//! Makes foreign text safe for a terminal and a log: control characters that a disk put into a
//! name, a path or a message are shown as escapes.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Escapes text for one line of a terminal: control characters, line ends, and characters that
/// change the direction of text.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_unsafe, |safe, c| safe.extend(c.escape_default()))
}

/// Escapes JSON text. Line ends are left alone, because in JSON they occur only between values.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    // All unsafe characters have four hex digits, as the escapes of JSON do.
    escape(
        text,
        |c| c != '\n' && is_unsafe(c),
        |safe, c| _ = write!(safe, "\\u{:04x}", u32::from(c)),
    )
}

/// Prints a line on standard error. Unlike `eprintln!`, it does not panic if standard error is
/// closed, which would end an operation halfway.
pub(crate) fn say(text: &str) {
    // If standard error is closed, there is no other way to report it.
    let _ = writeln!(std::io::stderr().lock(), "{}", printable(text));
}

/// Prints an error message on standard error.
pub(crate) fn complain(text: &str) {
    say(&format!("be: {text}"));
}

fn is_unsafe(c: char) -> bool {
    // Line and paragraph separators, and the explicit directional characters of Unicode (UAX #9,
    // section 2).
    let is_directional = matches!(
        c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    c.is_control() || is_directional
}

fn escape(
    text: &str,
    is_escaped: impl Fn(char) -> bool,
    write: impl Fn(&mut String, char),
) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) { write(&mut safe, c) } else { safe.push(c) }
    }
    Cow::Owned(safe)
}

/// A path as text: bytes that are not UTF-8 are `\\x` and two digits.
pub fn path_text(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.push_str(&chunk.invalid().escape_ascii().to_string());
    }
    text
}

/// Serializes a path as [`path_text`].
///
/// # Errors
/// Those of the serializer.
pub fn serialize_path<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path_text(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_any_bytes_is_text() {
        use std::ffi::OsStr;
        let path = |bytes: &'static [u8]| path_text(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(path("/var/ä".as_bytes()), "/var/ä");
        assert_ne!(path(b"/var/\xff"), path(b"/var/\xfe"));
        assert_eq!(path(b"/var/\xff"), "/var/\\xff");
    }

    #[test]
    fn control_characters_are_escaped() {
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
    fn escaped_json_has_the_same_value() {
        let value = serde_json::json!({ "spec": "a\u{9b}1m\u{7f}\x1b[2J\n\u{202e}\"\\ä" });
        let text = serde_json::to_string_pretty(&value).unwrap();
        let safe = json(&text);
        assert!(!safe.contains(|c| c != '\n' && is_unsafe(c)), "{safe}");
        assert!(safe.contains(r"a\u009b1m\u007f\u001b[2J\n\u202e"), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
