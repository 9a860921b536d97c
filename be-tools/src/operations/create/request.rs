//! What the user asked `be create` for.

use crate::environment::Name;
use crate::error::Refusal;
use crate::layout::Placement;
use crate::tree::exclude::Selection;

/// A request to make a new BE.
#[derive(Debug)]
pub struct CreateRequest {
    /// The new BE's name.
    pub name: Name,
    /// The BE to copy, or the running one if `None`.
    pub from: Option<String>,
    /// Whether to make the file systems without copying anything.
    pub empty: bool,
    /// The `-m` arguments.
    pub placements: Vec<Placement>,
    /// The BE whose devices become the target.
    pub replace: Option<String>,
    /// How the target gets its content.
    pub method: Method,
    /// Files to leave out.
    pub selection: Selection,
    /// The description of the new BE.
    pub description: String,
    /// Name for the running system, if it has to be adopted.
    pub current: Option<Name>,
    /// Whether the new BE gets its own machine-id and ssh host keys.
    pub new_machine: bool,
    /// Whether the new BE gets a loader and a boot entry.
    pub boot_entry: bool,
    /// Whether the copy may lie on another kind of storage than its source.
    pub other_storage: bool,
    /// Whether to erase devices that hold data.
    pub force: bool,
}

/// How the target gets its content (`--method`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// For each file system, the fastest method that is possible.
    #[default]
    Auto,
    /// Only by snapshot.
    Snapshot,
    /// Only by blocks.
    Block,
    /// Only by files.
    Copy,
}

impl CreateRequest {
    /// Refuses a method that this version does not have.
    ///
    /// # Errors
    /// [`Refusal::SnapshotUnsupported`].
    pub(super) fn refuse_method(&self) -> Result<(), Refusal> {
        match self.method {
            Method::Snapshot => Err(Refusal::SnapshotUnsupported),
            _ => Ok(()),
        }
    }
}
