//! x86 kernel images: Linux, Documentation/arch/x86/boot.rst.

/// The kernel's release, as `uname -r` prints it: `6.1.0-50-amd64`.
pub fn release(image: &[u8]) -> Option<&str> {
    let version = version(image)?;
    version.split(' ').next().filter(|release| !release.is_empty())
}

/// The kernel's full version string, which also says who built it and when.
pub fn version(image: &[u8]) -> Option<&str> {
    if image.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let pointer: [u8; 2] = image.get(0x20e..0x210)?.try_into().ok()?;
    let text = image.get(usize::from(u16::from_le_bytes(pointer)) + 0x200..)?;
    let end = text.iter().take(512).position(|byte| *byte == 0)?;
    std::str::from_utf8(&text[..end]).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A header with the fields that are parsed, followed by `version`.
    pub(crate) fn header(version: &str) -> Vec<u8> {
        let mut image = vec![0; 0x400];
        image[0x202..0x206].copy_from_slice(b"HdrS");
        image[0x20e..0x210].copy_from_slice(&0x200u16.to_le_bytes());
        image.extend(version.bytes());
        image.push(0);
        image
    }

    #[test]
    fn the_release_is_read_from_the_header() {
        let debian = "6.1.0-50-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC \
            Debian 6.1.170-1";
        let image = header(debian);
        assert_eq!(version(&image), Some(debian));
        assert_eq!(release(&image), Some("6.1.0-50-amd64"));
        assert_eq!(release(&image[..0x400]), None);
        assert_eq!(release(b"MZ"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_without_a_panic(
            pointer in any::<u16>(),
            tail in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let mut image = header("");
            image[0x20e..0x210].copy_from_slice(&pointer.to_le_bytes());
            image.extend(tail);
            let _ = release(&image);
        }
    }
}
