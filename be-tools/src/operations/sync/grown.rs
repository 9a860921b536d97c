//! What a log has grown by.

/// What `other` has more than `base` at its end. A log that does not begin with the base has been
/// rotated: all of it is more.
pub(super) fn after(other: &[u8], is_base: impl Fn(&[u8]) -> bool, size: usize) -> &[u8] {
    match other.split_at_checked(size) {
        Some((begin, more)) if is_base(begin) => more,
        _ => other,
    }
}

/// What `other` has more than `base` at its beginning.
pub(super) fn before(other: &[u8], is_base: impl Fn(&[u8]) -> bool, size: usize) -> &[u8] {
    match other.len().checked_sub(size).and_then(|more| other.split_at_checked(more)) {
        Some((more, end)) if is_base(end) => more,
        _ => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_taken_over() {
        let is_base = |bytes: &[u8]| bytes == b"one\n";
        for (other, more) in
            [(&b"one\ntwo\n"[..], &b"two\n"[..]), (b"one\n", b""), (b"new\n", b"new\n"), (b"", b"")]
        {
            assert_eq!(after(other, is_base, 4), more);
        }
        assert_eq!(before(b"two\none\n", is_base, 4), b"two\n");
        assert_eq!(before(b"one\n", is_base, 4), b"");
        assert_eq!(before(b"xy", is_base, 4), b"xy");
    }
}
