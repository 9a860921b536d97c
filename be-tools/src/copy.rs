//! The tree copy engine. It copies the tree of one file system into a target directory, with all
//! attributes of every inode.
//!
//! Three stages run at the same time. The walker lists the source in the order of its inode numbers
//! and creates the target's directories. A few threads open what it found and tell the kernel what
//! will be read, so that the disk can order many requests. Writers create the entries. Bounded
//! queues between the stages limit the memory. The calling thread reports progress and checks for
//! signals.

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
pub use request::{CopyRequest, Mode, Summary, Trust};
