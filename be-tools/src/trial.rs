//! The record of a trial, confirm, the deadline.

mod record;

pub use record::{MAX_ATTEMPTS, Record};
