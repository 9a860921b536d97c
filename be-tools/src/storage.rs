//! Block devices, their content, and mounts.

pub(crate) mod checkpoint;
pub mod device;
pub mod device_number;
pub mod hold;
pub mod mkfs;
mod mount_call;
mod mount_options;
pub mod mount_place;
pub mod mounts;
pub mod namespace;
pub mod partitions;
pub mod probe;
pub mod provision;
pub(crate) mod retry;
pub(crate) mod scratch;
pub mod stack;
pub mod subvolume;
pub mod swap;
#[cfg(test)]
pub(crate) mod testing;
pub mod usage;
pub mod volume;

/// Undoes the octal escapes (`\040`) of mountinfo(5), swaps and fstab(5).
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
    use super::*;

    #[test]
    fn only_octal_escapes_are_undone() {
        for (escaped, plain) in [
            (r"a\040b", "a b"),
            (r"\134040", r"\040"),
            (r"a\04", r"a\04"),
            (r"\777", r"\777"),
            ("", ""),
        ] {
            assert_eq!(unescape(escaped.as_bytes()), plain.as_bytes());
        }
    }
}
