//! The record of a trial, confirm, the deadline (DESIGN.md, "Trial, confirm, fallback").

mod confirm;
mod deadline;
mod notice;
mod record;

pub use confirm::{Confirmed, confirm, confirm_at_boot};
pub use deadline::deadline;
pub use record::{MAX_ATTEMPTS, Record};
