//! What can go wrong with one entry of a tree.

use rustix::io::Errno;

/// What happened to one entry.
#[derive(Debug)]
pub enum EntryError {
    /// It could not be read.
    Source(Errno),
    /// The target could not be written: doing what.
    Target(&'static str, Errno),
    /// The copy is being stopped.
    Stopped,
}
