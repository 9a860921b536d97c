//! What `be refresh` is asked for.

use crate::tree::exclude::Selection;

/// What the user asked for.
#[derive(Debug, Default)]
pub struct RefreshRequest {
    /// The BE to bring up to date.
    pub target: String,
    /// What to copy; the BE it was copied from if `None`.
    pub from: Option<String>,
    /// Compare the content of all files.
    pub checksum: bool,
    /// What is left as it is.
    pub selection: Selection,
}
