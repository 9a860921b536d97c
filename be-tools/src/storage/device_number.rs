//! Device numbers: what a device is while its name may pass to another.

use std::path::Path;

/// The number of a device node, links followed; `None` for anything else.
pub(crate) fn device_number(node: &Path) -> Option<(u32, u32)> {
    let stat = rustix::fs::stat(node).ok()?;
    rustix::fs::FileType::from_raw_mode(stat.st_mode)
        .is_block_device()
        .then(|| (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev)))
}
