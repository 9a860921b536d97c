//! Inputs that are text, and what holds for text of a foreign disk.

use std::borrow::Cow;

/// An input as the files of a BE are read: what is not UTF-8 is replaced.
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The parts of an input that consists of several texts, which a NUL separates.
pub fn parts<const N: usize>(text: &str) -> [&str; N] {
    let mut parts = text.splitn(N, '\0');
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

/// Text of a foreign disk must not reach a terminal with its control characters.
pub fn assert_printable(text: &str) {
    assert!(!text.chars().any(char::is_control), "{text:?}");
}
