//! End-to-end tests: real Debian systems in virtual machines, and the programs as built. The
//! machinery is in `qemu`; here are the `be` words for a machine, and the table of scenario ×
//! release.

pub mod prepared;
pub mod rescue;
pub mod table;
mod words;

pub use words::{BeWords, be_program};
