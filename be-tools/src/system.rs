//! The machine under `be`: where its kernel interfaces are found. Tests hand in a temporary folder.

use std::path::PathBuf;

/// Roots of the kernel's file systems.
#[derive(Clone, Debug)]
pub struct System {
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
    /// `/run`, where locks and mount points live
    pub run: PathBuf,
}

impl System {
    /// The machine this program runs on.
    pub fn host() -> Self {
        System { sys: "/sys".into(), dev: "/dev".into(), proc: "/proc".into(), run: "/run".into() }
    }
}
