//! What is done to a BE, and whether it is whole.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An operation that makes a BE incomplete while it works. `Import` and `Migrate` are reserved: no
/// version makes them yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the verb of that name")]
pub enum Operation {
    Adopt,
    Create,
    Refresh,
    Upgrade,
    Repair,
    Import,
    Migrate,
    Delete,
    Run,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Adopt => "adopt",
            Operation::Create => "create",
            Operation::Refresh => "refresh",
            Operation::Upgrade => "upgrade",
            Operation::Repair => "repair",
            Operation::Import => "import",
            Operation::Migrate => "migrate",
            Operation::Delete => "delete",
            Operation::Run => "run",
        })
    }
}

/// Whether a BE is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// All of it is written and synced.
    Complete,
    /// An operation was interrupted.
    Incomplete,
}
