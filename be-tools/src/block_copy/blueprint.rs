//! What a block copy consists of, or why it is not possible.

use std::ops::Range;

use super::overlay::Edit;
use super::xfs_log::CleanLog;
use crate::error::Result;

/// The most bytes of backup super blocks, which are held in memory. Every group of a damaged or
/// hostile file system could claim to have one.
pub const MAX_BACKUP_BYTES: usize = 32 << 20;

/// Why the blocks of a file system cannot be copied, as a clause such as "its journal is on another
/// device".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

impl Unfit {
    pub(super) fn new<T>(why: impl Into<String>) -> Result<T, Unfit> {
        Err(Unfit(why.into()))
    }
}

/// Adds a backup super block.
///
/// # Errors
/// They exceed [`MAX_BACKUP_BYTES`].
pub fn add_backup(backups: &mut Vec<Edit>, backup: Edit) -> Result<(), Unfit> {
    if (backups.len() + 1) * backup.bytes.len() > MAX_BACKUP_BYTES {
        return Unfit::new("it has too many backup super blocks");
    }
    backups.push(backup);
    Ok(())
}

/// What distinguishes a copy from its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its UUID.
    pub uuid: uuid::Uuid,
    /// Its label; empty for none.
    pub label: String,
}

/// What a copy consists of. Ranges are bytes of the device.
#[derive(Debug)]
pub struct Blueprint {
    /// Size of the file system.
    pub size: u64,
    /// The ranges that are copied, sorted.
    pub used: Vec<Range<u64>>,
    /// Used ranges that are zeroed instead of copied, such as an empty journal.
    pub zeros: Vec<Range<u64>>,
    /// A new log for the copy.
    pub log: Option<CleanLog>,
    /// The backup super blocks, which are written before the primary one.
    pub backups: Vec<Edit>,
    /// The primary super block, which makes the copy a file system.
    pub primary: Edit,
}
