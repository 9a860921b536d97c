//! What a FAT file system is made from.

use std::collections::BTreeMap;

/// The contents of a file system.
#[derive(Debug)]
pub struct Volume<'a> {
    /// Size of the file system in bytes.
    pub size: u64,
    /// Sectors of the disk before the file system.
    pub hidden_sectors: u32,
    /// Label, at most 11 ASCII capitals and digits.
    pub label: &'a str,
    /// Serial number.
    pub id: u32,
    /// Timestamp of all files, in seconds since 1970, UTC.
    pub time: u64,
    /// Files by path, with `/` as the separator.
    pub files: BTreeMap<String, &'a [u8]>,
}
