//! Errors that concern one entry of a tree.

use rustix::io::Errno;

/// Why an entry was not copied.
#[derive(Debug)]
pub enum EntryError {
    /// The entry could not be read.
    Source(Errno),
    /// The entry can be read, and is lost all the same, for this reason.
    Lost(&'static str),
    /// The target could not be written. The string says what was being done.
    Target(&'static str, Errno),
    /// The copy is being stopped.
    Stopped,
}
