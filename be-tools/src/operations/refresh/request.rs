//! What the user asked `be refresh` for.

use crate::layout::MountPoint;
use crate::tree::exclude::Selection;

/// A request to bring a BE up to date.
#[derive(Debug, Default)]
pub struct RefreshRequest {
    /// The BE to bring up to date.
    pub target: String,
    /// The BE to copy, or the one that the target was copied from if `None`.
    pub from: Option<String>,
    /// Whether to compare the content of all files.
    pub checksum: bool,
    /// File systems of its fstab that are filled from now on, although nothing shows that they were
    /// made for it.
    pub take_over: Vec<MountPoint>,
    /// File systems of its fstab that stay as they are.
    pub keep: Vec<MountPoint>,
    /// Whether it may lie on another kind of storage than its source.
    pub other_storage: bool,
    /// Whether to refresh a BE that the machine starts by itself, and without a user also one that
    /// has run.
    pub force: bool,
    /// Whether no user sees the plan.
    pub unattended: bool,
    /// Files to leave as they are.
    pub selection: Selection,
}
