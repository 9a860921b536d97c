//! Recognises what a block device holds by its super blocks, with an ordered table of pure
//! functions on bytes.
//!
//! The bytes may be hostile: every access is checked, and control characters are removed from every
//! string. Nothing is mounted.

mod blank;
mod bytes;
mod containers;
mod content;
mod fat;
mod file_systems;
mod fs_uuid;
mod source;
mod tables;
pub(crate) mod xfs;

use std::io;

pub(crate) use blank::{mark_of_erased, mark_of_unfinished};
pub(crate) use bytes::Block;
pub use bytes::Image;
pub use content::{Content, Kind, SuperBlock};
pub use fs_uuid::FsUuid;
pub use source::{OpenDevice, Source};

type Probe = fn(&Image) -> Option<SuperBlock>;

/// The order matters if the bytes match several probes. Containers come first, because an md member
/// with its super block at the end looks like the file system in it. The MBR is last, because a FAT
/// boot sector ends in the same two bytes.
const PROBES: &[Probe] = &[
    containers::luks,
    containers::lvm,
    containers::md_1,
    containers::md_0_90,
    containers::zfs,
    tables::gpt,
    xfs::xfs,
    file_systems::ext,
    file_systems::btrfs,
    file_systems::swap,
    file_systems::squashfs,
    file_systems::erofs,
    file_systems::f2fs,
    file_systems::iso9660,
    fat::ntfs,
    fat::exfat,
    fat::vfat,
    tables::mbr,
];

/// Recognises what `source` holds. Where no super block is recognised, some megabytes are read to
/// tell a blank device from unknown data.
pub fn probe(source: &dyn Source) -> Content {
    let content = || {
        Ok(match super_block(source)? {
            Some(found) => Content::Known(found),
            None if blank::is_blank(source)? => Content::Blank,
            None => Content::Unknown,
        })
    };
    content().unwrap_or_else(|error: io::Error| Content::Unreadable(error.to_string()))
}

/// The super block of what `source` holds, if it is of a known kind.
///
/// # Errors
/// The source cannot be read.
pub fn super_block(source: &dyn Source) -> io::Result<Option<SuperBlock>> {
    let image = Image::new(source)?;
    Ok(PROBES.iter().find_map(|probe| probe(&image)))
}

#[cfg(test)]
mod tests;
