//! What the copy of a file system's blocks is made of, or why it cannot be made.

use std::ops::Range;

use super::overlay::Edit;
use super::xfs_log::FreshLog;
use crate::error::Result;

/// Why the blocks of a file system cannot be copied, as a clause: "its journal lies on another
/// device".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub String);

impl Unfit {
    pub(super) fn new<T>(why: impl Into<String>) -> Result<T, Unfit> {
        Err(Unfit(why.into()))
    }
}

/// What a copy is called, so that it is not taken for its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its UUID.
    pub uuid: uuid::Uuid,
    /// Its label; empty for none.
    pub label: String,
}

/// What a copy is made of.
#[derive(Debug)]
pub struct Blueprint {
    /// Bytes that the file system spans.
    pub size: u64,
    /// What is copied; sorted.
    pub used: Vec<Range<u64>>,
    /// Used as well, but never read before it is written, or read as zeros: a journal that is
    /// empty, for one.
    pub zeros: Vec<Range<u64>>,
    /// A log of the copy's own.
    pub log: Option<FreshLog>,
    /// The super blocks that are written before the primary one.
    pub backups: Vec<Edit>,
    /// The one that makes a file system of all this.
    pub primary: Edit,
}
