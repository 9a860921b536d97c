//! UEFI strings: UCS-2, little endian, terminated by a NUL (UEFI 2.10, section 2.3.1). They are
//! read and written as UTF-16, as firmware does.

/// The UTF-16LE bytes of `text`, without a NUL.
pub fn encode(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// The UTF-16LE bytes of `text` and a NUL.
pub fn encode_nul(text: &str) -> Vec<u8> {
    let mut bytes = encode(text);
    bytes.extend([0, 0]);
    bytes
}

/// Decodes all of `bytes`. Returns `None` if they are not UTF-16.
pub fn decode(bytes: &[u8]) -> Option<String> {
    if !bytes.len().is_multiple_of(2) {
        return None;
    }
    String::from_utf16(&units(bytes)).ok()
}

/// Decodes up to the first NUL or the end. U+FFFD replaces whatever is not UTF-16.
pub fn decode_lossy(bytes: &[u8]) -> String {
    let mut units = units(bytes);
    if let Some(nul) = units.iter().position(|unit| *unit == 0) {
        units.truncate(nul);
    }
    String::from_utf16_lossy(&units)
}

/// The offset just after the first NUL of `bytes`.
pub(crate) fn end_of_string(bytes: &[u8]) -> Option<usize> {
    let units = bytes.chunks_exact(2);
    let nul = units.into_iter().position(|unit| unit == [0, 0])?;
    Some((nul + 1) * 2)
}

fn units(bytes: &[u8]) -> Vec<u16> {
    let pairs = bytes.chunks_exact(2);
    pairs.map(|b| u16::from_le_bytes([b[0], b[1]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_as_it_was_encoded() {
        for text in ["", "debian", "Größe", "𝄞 outside the basic plane"] {
            assert_eq!(decode(&encode(text)).as_deref(), Some(text));
            assert_eq!(decode_lossy(&encode_nul(text)), text);
        }
    }

    #[test]
    fn invalid_utf16_is_refused_or_replaced() {
        assert_eq!(decode(&[0x41]), None);
        assert_eq!(decode(&[0x00, 0xd8]), None);
        assert_eq!(decode_lossy(&[0x00, 0xd8, 0x41, 0x00]), "\u{fffd}A");
    }
}
