//! What localizing did, and what it could not do.

/// What was done in a copy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Localized {
    /// A sentence for each thing that was done.
    pub done: Vec<String>,
    /// What the user should know before the copy is booted.
    pub warnings: Vec<String>,
    /// What could not be done, though the copy is complete otherwise.
    pub shortfalls: Vec<String>,
}

impl Localized {
    /// Adds what another part did.
    pub fn add(&mut self, other: Localized) {
        self.done.extend(other.done);
        self.warnings.extend(other.warnings);
        self.shortfalls.extend(other.shortfalls);
    }
}
