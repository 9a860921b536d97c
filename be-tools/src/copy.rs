//! The tree copy engine: one file system's tree into a target directory, with everything an inode
//! has.
//!
//! Three stages work at once. The walker lists the source in the order of its inodes and makes the
//! target's directories; a few threads open what it found and tell the kernel what will be read, so
//! that the disk has many requests before it at a time; writers make the entries. Bounded queues
//! between them bound the memory. The calling thread reports and listens to signals.

mod engine;
mod entry;
mod pipeline;
pub(crate) mod prune;
mod quick_check;
mod request;
mod second_pass;
mod target_tree;
mod temporary;
mod update;

pub use pipeline::copy_tree;
pub use request::{Mode, Request, Summary, Trust};
