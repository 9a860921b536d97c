//! The differences between a copy and its source.

use std::collections::BTreeMap;

use boot::menu::BootMenu;

use super::identity::NewMachine;
use crate::environment::{Id, Root};
use crate::error::{Error, Result};
use crate::layout::{Layout, MountPoint};

/// The differences between a copy and its source.
#[derive(Debug)]
pub struct Localization<'a> {
    /// The id of the copy.
    pub id: Id,
    /// The file systems of the copy.
    pub layout: &'a Layout,
    /// The UUIDs of these file systems.
    pub uuids: &'a BTreeMap<MountPoint, String>,
    /// The UUIDs of the copy's swap spaces.
    pub swap_uuids: &'a [String],
    /// The UUIDs of the file systems that `LABEL=` and `PARTLABEL=` in the source's fstab name.
    pub labels: &'a BTreeMap<String, String>,
    /// The root of the source.
    pub source_root: &'a Root,
    /// The boot menu of the source.
    pub source_menu: &'a BootMenu,
    /// The fstab of the source, if the target has an older one that is not to be used.
    pub source_fstab: Option<&'a str>,
    /// Set if the copy is to become a machine of its own.
    pub new_machine: Option<&'a NewMachine>,
    /// It has, or gets, a boot entry on this machine.
    pub is_bootable: bool,
}

impl Localization<'_> {
    /// The UUID of its root file system.
    ///
    /// # Errors
    /// It has none.
    pub fn root_uuid(&self) -> Result<&str> {
        let uuid = self.uuids.get(&MountPoint::root()).map(String::as_str);
        uuid.ok_or_else(|| {
            Error::Failed(
                "the target's root file system has no UUID: create that file system again".into(),
            )
        })
    }

    /// Its root has the type of the source's.
    pub fn keeps_root_type(&self) -> bool {
        self.layout
            .at(&MountPoint::root())
            .is_some_and(|t| t.fs_type.as_str() == self.source_root.fs_type)
    }
}
