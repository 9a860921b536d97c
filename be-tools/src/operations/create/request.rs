//! What `be create` is asked for.

use crate::environment::Name;
use crate::error::Refusal;
use crate::layout::Placement;
use crate::tree::exclude::Selection;

/// What the user asked for.
#[derive(Debug)]
pub struct CreateRequest {
    /// The new BE's name.
    pub name: Name,
    /// What to copy; the running BE if `None`.
    pub from: Option<String>,
    /// Make file systems and copy nothing.
    pub empty: bool,
    /// The `-m` arguments.
    pub placements: Vec<Placement>,
    /// The BE whose devices become the target.
    pub replace: Option<String>,
    /// How the target gets its content.
    pub method: Method,
    /// What is left out.
    pub selection: Selection,
    /// Free text.
    pub description: String,
    /// Name for the running system, if it has to be adopted.
    pub current: Option<Name>,
    /// New machine-id and ssh host keys.
    pub new_machine: bool,
    /// Write loader and boot entry.
    pub boot_entry: bool,
    /// Erase devices that hold data.
    pub force: bool,
}

/// How the target gets its content (`--method`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// The cheapest way that is right, for each file system.
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
    /// Refuses what no method can do, whatever the source.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn refuse_method(&self) -> Result<(), Refusal> {
        match self.method {
            Method::Snapshot => Err(Refusal::Other(
                "this version of be makes no snapshots: leave --method out, and the files or \
                blocks are copied"
                    .into(),
            )),
            _ => Ok(()),
        }
    }
}
