//! The output of a console as text that can be searched, without the escape sequences that colour
//! it or move the cursor (ECMA-48, sections 5.4 and 5.6).

/// Removes escape sequences from a stream of bytes that arrives in chunks.
#[derive(Debug, Default)]
pub(crate) struct PlainText {
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Text,
    Escape,
    /// A control sequence, up to its final byte 0x40 to 0x7e.
    Control,
    /// A string (title, device control), up to BEL or ESC \.
    String,
    StringEscape,
    /// One more byte belongs to the sequence (character set designation).
    Skip,
}

impl PlainText {
    /// Appends the text in `bytes` to `text`. A movement of the cursor becomes a line break, so
    /// that words that are drawn side by side on a screen stay separate.
    pub(crate) fn feed(&mut self, bytes: &[u8], text: &mut Vec<u8>) {
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (State::Text, 0x1b) => State::Escape,
                (State::Text, b'\n' | b'\t' | 0x20..) => {
                    text.push(byte);
                    State::Text
                }
                (State::Text, _) => State::Text,
                (State::Escape, b'[') => State::Control,
                (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => State::String,
                (State::Escape, b'(' | b')' | b'#' | b'%' | b' ') => State::Skip,
                (State::Escape, 0x1b) => State::Escape,
                (State::Control, b'H' | b'f') => {
                    if text.last().is_some_and(|&last| last != b'\n') {
                        text.push(b'\n');
                    }
                    State::Text
                }
                (State::Control, 0x40..=0x7e) => State::Text,
                (State::Control, _) => State::Control,
                (State::String, 0x07) => State::Text,
                (State::String, 0x1b) => State::StringEscape,
                (State::String, _) => State::String,
                (State::StringEscape, b'\\') => State::Text,
                (State::StringEscape, _) => State::String,
                (State::Escape | State::Skip, _) => State::Text,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(pieces: &[&[u8]]) -> String {
        let (mut plain, mut text) = (PlainText::default(), Vec::new());
        for piece in pieces {
            plain.feed(piece, &mut text);
        }
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn escape_sequences_are_removed() {
        for (raw, expected) in [
            (
                &b"[\x1b[0;32m  OK  \x1b[0m] Unmounted \x1b[0;1;39mboot-efi.mount\x1b[0m.\r\n"[..],
                "[  OK  ] Unmounted boot-efi.mount.\n",
            ),
            (b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[2J\x1b[01;01HBdsDxe: loading", "BdsDxe: loading"),
            (b"\x1b]0;root@host: ~\x07root@host:~# ", "root@host:~# "),
            (b"\x1bP+q544e\x1b\\after\x1b(Bx", "afterx"),
            (b"left\x1b[5;40Hright", "left\nright"),
            ("Größe ✓".as_bytes(), "Größe ✓"),
        ] {
            assert_eq!(plain(&[raw]), expected);
        }
    }

    #[test]
    fn a_sequence_may_be_split_between_chunks() {
        let raw = b"[\x1b[0;32m  OK  \x1b[0m] \x1b]0;t\x07done";
        for cut in 0..raw.len() {
            assert_eq!(plain(&[&raw[..cut], &raw[cut..]]), "[  OK  ] done");
        }
    }
}
