//! The verbs: what each decides, and its steps.

pub mod activate;
pub mod adopt;
pub mod boot;
pub mod boot_entries;
pub mod cancel;
pub mod compare;
pub mod confirm;
pub mod create;
pub mod delete;
pub mod describe;
pub mod history;
mod in_place;
pub mod mount;
pub mod prune;
pub mod refresh;
pub mod rename;
pub mod run;
pub mod schedule;
pub mod successor;
pub mod sync;
pub mod upgrade;
pub mod verify;
mod write_descriptor;
