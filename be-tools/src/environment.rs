//! A boot environment: what is found of it on the disks, and what it says of itself.

mod boot_environment;
mod descriptor;
pub mod facts;
pub mod health;
pub mod history;
pub mod inventory;
mod loader_name;
pub mod manifest;
mod mark;
pub mod mounted;
mod name;
mod operation;
mod problem;
pub(crate) mod unclean;

pub use crate::own_files::DESCRIPTOR_PATH;
pub use boot_environment::{
    BootEnvironment, FileSystemUse, OperatingSystem, Root, SYSTEM_PLACES, Trial, is_never_shared,
};
pub use descriptor::{Descriptor, FORMAT, SyncNote};
pub use inventory::Inventory;
pub use loader_name::LoaderName;
pub use mark::{MadeDevice, Purpose};
pub use name::{Id, Name};
pub use operation::{Operation, State};
pub use problem::{NOT_MOUNTED, Problem, sentences};
