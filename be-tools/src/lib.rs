//! Boot environments on Linux: the library behind `be`.
//!
//! An operation builds a [`plan::Plan`] from what `discover` finds, has it confirmed, and runs it.
//! Only [`cli`] prints, and what starts itself as a process of its own.

pub mod activate;
pub mod adopt;
pub mod boot_entries;
pub mod cli;
pub mod copy;
pub mod create;
pub mod delete;
pub mod discover;
pub mod environment;
pub mod error;
pub(crate) mod fill;
mod flags;
pub mod fstab;
pub mod health;
mod hooks;
pub mod identity;
pub mod kexec;
pub mod layout;
pub mod loader;
pub mod localize;
pub mod mounted;
pub mod plan;
pub mod printable;
pub mod refresh;
pub mod rename;
pub mod rooted;
pub mod run;
pub mod signals;
pub mod storage;
mod sys;
pub mod system;
pub mod tool;
pub mod trial;
pub mod units;
mod workers;

pub use boot::command_line;
pub use error::{Error, Refusal, Result};
