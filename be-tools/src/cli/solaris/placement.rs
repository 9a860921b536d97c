//! The argument of lucreate's `-m`, and the lines of its `-M`: `MOUNTPOINT:DEVICE:FSTYPE`.

use crate::error::{Error, Result};

/// The argument of be's `-m`.
///
/// # Errors
/// It names what Linux does not have.
pub(super) fn translate(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split(':').collect();
    let [mountpoint, device, options] = parts[..] else {
        return Err(Error::Usage(format!("-m {text}: use MOUNTPOINT:DEVICE:FSTYPE")));
    };
    if ["merged", "shared"].contains(&device) {
        return Ok(format!("{mountpoint}:{device}"));
    }
    let options: Vec<&str> = options.split(',').collect();
    let refuse = |why: &str| Err(Error::Usage(format!("-m {text}: {why}")));
    if options.contains(&"preserve") {
        return refuse(
            "preserve leaves the content of a device as it is; be makes each file system that it \
            fills, and `be refresh --keep` leaves one alone",
        );
    }
    match options[..] {
        ["ufs" | "zfs" | "vxfs"] => {
            refuse(&format!("Linux does not write {}: use ext4, xfs or btrfs", options[0]))
        }
        [fs_type] => Ok(format!("{mountpoint}:{device}:{fs_type}")),
        _ => {
            refuse("mount options are separated by ':' here, as in MOUNTPOINT:DEVICE:ext4:noatime")
        }
    }
}
