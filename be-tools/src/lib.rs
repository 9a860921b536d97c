//! Boot environments on Linux: the library behind `be`.
//!
//! An operation builds a [`plan::Plan`] from what `discover` finds, has it confirmed, and runs it.
//! Only [`cli`] prints, and what starts itself as a process of its own.

pub mod block_copy;
pub mod cli;
pub mod copy;
mod crypttab;
pub mod discover;
mod distribution;
pub mod environment;
pub mod error;
pub mod escape;
pub mod fstab;
pub mod host;
mod inode_flags;
pub mod installed;
pub mod layout;
pub mod loader;
pub mod localize;
mod lossless;
pub mod operations;
pub mod plan;
pub(crate) mod populate;
pub mod root_dir;
pub mod sandbox;
mod session;
pub mod signals;
pub mod step;
pub mod storage;
mod sys;
pub mod timestamp;
pub mod tool;
pub mod tree;
mod workers;

pub use boot::command_line;
pub use error::{Error, Refusal, Result};
