//! A manifest: what a tree holds, with a hash of the content of every file, so that later each can
//! be proved to be as it was.
//!
//! Its form is that of mtree(5), which other programs read too, with full paths and one line an
//! entry. Beside its keywords there are `ctime`, `blake3` (the content of a file) and `xattrs` (the
//! extended attributes).

mod compare;
mod content;
mod described;
mod entry;
mod record;
mod text;
mod verify;

pub use compare::compare;
pub use described::Described;
pub use entry::{Entry, MAX_PATH, Manifest};
pub use record::{Recorded, Unknown, record};
pub use text::{MAX_ENTRIES, parse, write};
pub use verify::{Finding, Findings, Status, verify};

#[cfg(test)]
mod tests;
