//! Block devices, their content, and mounts.

pub(crate) mod checkpoint;
pub mod device;
pub mod device_number;
pub mod hold;
pub mod mkfs;
mod mount_call;
mod mount_options;
pub mod mount_place;
pub mod mounts;
pub mod namespace;
pub mod partitions;
pub mod probe;
pub mod provision;
pub(crate) mod retry;
pub(crate) mod scratch;
pub mod stack;
pub mod subvolume;
pub mod swap;
#[cfg(test)]
pub(crate) mod testing;
pub mod usage;
pub mod volume;
