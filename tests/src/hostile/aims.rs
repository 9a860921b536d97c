//! What hostile disks aim at.

use std::path::PathBuf;

/// What an enemy would like to have written to, or to be taken for.
#[derive(Clone, Debug)]
pub struct Aims {
    /// The node of a device with data that no command names.
    pub victim: PathBuf,
    /// The UUID of its file system.
    pub victim_uuid: String,
    /// The id of a good BE.
    pub good_id: String,
    /// Its name.
    pub good_name: String,
    /// The UUID of its root.
    pub good_uuid: String,
}
