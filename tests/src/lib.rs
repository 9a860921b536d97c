//! End-to-end tests of the built programs on real Debian systems in virtual machines. The crate
//! `qemu` runs the machines; this one adds the commands of `be` and the table of scenario ×
//! release.

mod be_commands;
pub mod hostile;
pub mod packages;
pub mod prepared;
pub mod programs;
pub mod repository;
pub mod rescue;
pub mod table;

pub use be_commands::{BeCommands, be_program};
