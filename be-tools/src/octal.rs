//! The octal escapes (`\040`) of fstab(5), mountinfo(5), mtree(5) and /proc/swaps.

use std::fmt::Write as _;

/// Escapes white space, backslashes and `#` (getmntent(3)).
pub(crate) fn escape(field: &str) -> String {
    let mut escaped = String::with_capacity(field.len());
    for c in field.chars() {
        match c {
            ' ' | '\t' | '\n' | '\r' | '\\' | '#' => {
                // Writing to a String does not fail.
                let _ = write!(escaped, "\\{:03o}", u32::from(c));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

/// Escapes what is not a printable character of ASCII, and what mtree(5) reads as more than itself.
pub(crate) fn escape_bytes(field: &[u8]) -> String {
    let mut escaped = String::with_capacity(field.len());
    for byte in field {
        match byte {
            b'\\' | b'#' | b'=' | b'*' | b'?' | b'[' => {
                // Writing to a String does not fail.
                let _ = write!(escaped, "\\{byte:03o}");
            }
            byte if byte.is_ascii_graphic() => escaped.push(char::from(*byte)),
            byte => {
                let _ = write!(escaped, "\\{byte:03o}");
            }
        }
    }
    escaped
}

/// As [`unescape`], for text. Bytes that are not UTF-8 are replaced.
pub(crate) fn unescape_text(field: &str) -> String {
    String::from_utf8_lossy(&unescape(field.as_bytes())).into_owned()
}

/// Undoes the escapes. What is none is kept as it is.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = |b: &u8| (b'0'..=b'7').contains(b).then(|| u16::from(b - b'0'));
        let code = match (first, tail) {
            (b'\\', [a, b, c, ..]) => {
                octal(a).zip(octal(b)).zip(octal(c)).map(|((a, b), c)| a * 64 + b * 8 + c)
            }
            _ => None,
        };
        match code.and_then(|code| u8::try_from(code).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => {
                plain.push(first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_three_octal_digits_that_are_a_byte_are_an_escape() {
        for (escaped, plain) in [
            (r"a\040b", "a b"),
            (r"\134040", r"\040"),
            (r"a\04", r"a\04"),
            (r"a\08b", r"a\08b"),
            (r"\777", r"\777"),
            (r"\", r"\"),
        ] {
            assert_eq!(unescape_text(escaped), plain);
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_back(text in ".*") {
            prop_assert_eq!(unescape_text(&escape(&text)), text);
        }

        #[test]
        fn bytes_that_are_escaped_come_back(bytes: Vec<u8>) {
            let escaped = escape_bytes(&bytes);
            prop_assert!(escaped.bytes().all(|byte| byte.is_ascii_graphic()));
            prop_assert_eq!(unescape(escaped.as_bytes()), bytes);
        }
    }
}
