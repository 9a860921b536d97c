//! The attribute files of sysfs, and the device node of an entry in it.

use std::path::{Path, PathBuf};

use crate::host::Host;
use crate::storage::device_number::DeviceNumber;

/// The text of a file in sysfs; `None` if the file cannot be read.
pub(super) fn read(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| clean(&bytes))
}

/// The text without white space at its ends and without control characters.
pub(super) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// The node of a device: `/dev/mapper/NAME` for a volume of the device mapper, if that is a node of
/// this number. Without udev such a symlink may lead to a device that has its number now.
pub(super) fn node(
    host: &Host,
    name: &str,
    dm_name: Option<&str>,
    number: DeviceNumber,
) -> PathBuf {
    dm_name
        .map(|name| host.dev.join("mapper").join(name))
        .filter(|path| DeviceNumber::of_node(path) == Some(number))
        .unwrap_or_else(|| host.dev.join(name.replace('!', "/")))
}
