//! Makes the target's layout, with its split, merged and shared file systems, from the file systems
//! of the source and the placements of the user. Does no I/O.

mod copies;
mod existing_devices;
mod mount_point;
mod options;
mod placement;
mod rules;
mod target;

#[cfg(test)]
mod tests;

pub use copies::TreeCopy;
pub use existing_devices::{Existing, Pair, Unproven, placements_replacing};
pub use mount_point::MountPoint;
pub use placement::{FsType, Placement, PlacementKind};
pub use rules::{Treatment, lay_out};
pub use target::{Layout, TargetFileSystem};
