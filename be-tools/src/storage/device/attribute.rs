//! The small files of sysfs, and the node that belongs to a device's entry there.

use std::path::{Path, PathBuf};

use crate::host::Host;

/// The text of a file of sysfs; `None` where it is not there.
pub(super) fn read(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| clean(&bytes))
}

/// Without blanks around it and control characters in it.
pub(super) fn clean(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .chars()
        .filter(|c| !c.is_control())
        .collect()
}

/// The node of a device: `/dev/mapper/NAME` for a volume of the device mapper.
pub(super) fn node(host: &Host, name: &str, dm_name: Option<&str>) -> PathBuf {
    let mapper =
        dm_name.map(|name| host.dev.join("mapper").join(name)).filter(|path| path.exists());
    mapper.unwrap_or_else(|| host.dev.join(name.replace('!', "/")))
}
