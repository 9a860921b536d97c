//! Swap in use: `/proc/swaps` (proc(5)).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use crate::error::{Doing, Result};
use crate::host::Host;

/// One swap area in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SwapUse {
    /// The device node or the file.
    pub path: PathBuf,
    /// It is a block device.
    pub is_device: bool,
    /// The size in bytes.
    pub size: u64,
    /// The bytes in use.
    pub used: u64,
}

/// Reads the swap areas in use.
///
/// # Errors
/// `/proc/swaps` exists, but cannot be read.
pub fn read(host: &Host) -> Result<Vec<SwapUse>> {
    let path = host.swaps_table();
    match std::fs::read(&path) {
        Ok(text) => Ok(parse(&text)),
        // The file does not exist if the kernel has no swap support.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).at("reading", &path),
    }
}

/// Parses the text of `/proc/swaps`.
pub fn parse(text: &[u8]) -> Vec<SwapUse> {
    let fields = |line: &[u8]| -> Option<SwapUse> {
        let mut words = line.split(|b| b.is_ascii_whitespace()).filter(|word| !word.is_empty());
        let path = crate::octal::unescape(words.next()?);
        let kind = words.next()?;
        let mut kibibytes =
            || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok()?.checked_mul(1024);
        let (size, used) = (kibibytes()?, kibibytes()?);
        Some(SwapUse {
            path: OsString::from_vec(path).into(),
            is_device: kind == b"partition",
            size,
            used,
        })
    };
    text.split(|b| *b == b'\n').skip(1).filter_map(fields).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_are_read_with_their_escapes() {
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n\
            /dev/vda3                               partition\t999420\t\t1024\t\t-2\n\
            /var/my\\040swap                         file\t\t1048572\t\t0\t\t-3\n";
        let areas = parse(text);
        assert_eq!(
            areas,
            [
                SwapUse {
                    path: "/dev/vda3".into(),
                    is_device: true,
                    size: 999_420 << 10,
                    used: 1 << 20
                },
                SwapUse {
                    path: "/var/my swap".into(),
                    is_device: false,
                    size: 1_048_572 << 10,
                    used: 0
                },
            ]
        );
        assert_eq!(parse(b""), []);
    }
}
