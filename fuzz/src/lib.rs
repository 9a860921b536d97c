//! The parsers of foreign bytes as targets of a fuzzer (docs/testing.md, "Parsers under fuzz").
//!
//! A target calls a parser and asserts what holds for every input. `make fuzz` runs them under
//! libFuzzer; `tests/corpus.rs` runs them on the files of `corpus/` wherever the tests run.

mod allocation;
mod checksums;
pub mod device;
mod limits;
mod sys;
mod targets;

pub use allocation::{Measured, measure};
pub use limits::{MAX_BYTES, MAX_TIME, TARGET_VARIABLE};
pub use sys::{Allocator, use_signal_stack};
pub use targets::{FAILING, TARGETS, Target, named};
