//! Text that is changed and written back, with every byte that is not changed as it was.
//!
//! A configuration file may hold bytes that are not UTF-8, such as a comment in ISO-8859-1. Each of
//! them becomes a private character here (as in Python's `surrogateescape`, PEP 383), and the same
//! byte again when the text is written.

/// The character of the byte 0. Those of the 256 bytes are at the end of the last private plane.
const FIRST: u32 = 0x10_fe00;

/// The text of these bytes.
pub fn decode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match byte_of(c) {
                None => text.push(c),
                // One that was in the file already is taken apart, or it would become a byte.
                Some(_) => {
                    let mut own = [0; 4];
                    text.extend(c.encode_utf8(&mut own).bytes().filter_map(char_of));
                }
            }
        }
        text.extend(chunk.invalid().iter().copied().filter_map(char_of));
    }
    text
}

/// The bytes of a text that [`decode`] returned, and of what was added to it.
pub fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    for c in text.chars() {
        match byte_of(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    bytes
}

/// Always one, because the plane has 256 characters from [`FIRST`] on.
fn char_of(byte: u8) -> Option<char> {
    char::from_u32(FIRST + u32::from(byte))
}

fn byte_of(c: char) -> Option<u8> {
    u32::from(c).checked_sub(FIRST).and_then(|byte| u8::try_from(byte).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_text_and_other_bytes_come_back() {
        assert_eq!(decode("déjà vu\n".as_bytes()), "déjà vu\n");
        let latin = b"# disque d\xe9di\xe9\nUUID=1 / ext4\n";
        let text = decode(latin);
        assert!(text.ends_with("\nUUID=1 / ext4\n") && text.starts_with("# disque d"), "{text:?}");
        let changed = encode(&text.replace("UUID=1", "UUID=2"));
        assert_eq!(changed, b"# disque d\xe9di\xe9\nUUID=2 / ext4\n");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..64), c: char) {
            prop_assert_eq!(encode(&decode(&bytes)), bytes);
            let private = ['\u{10fe00}', '\u{10feff}', c].iter().collect::<String>();
            prop_assert_eq!(encode(&decode(private.as_bytes())), private.as_bytes());
        }
    }
}
