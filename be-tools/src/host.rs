//! The machine under `be`: where its kernel interfaces are found. Tests hand in a temporary
//! directory.

use std::path::PathBuf;

use boot::efi::Variables;

/// Roots of the kernel's file systems.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
    /// `/run`, where locks and mount points live
    pub run: PathBuf,
}

impl Host {
    /// The machine this program runs on.
    pub fn local() -> Self {
        Host { sys: "/sys".into(), dev: "/dev".into(), proc: "/proc".into(), run: "/run".into() }
    }

    /// The firmware's variables; there are none where the machine was not started by UEFI.
    pub fn variables(&self) -> Variables {
        Variables::new(self.sys.join("firmware/efi/efivars"))
    }
}
