//! What makes a copy different from its source.

use std::collections::BTreeMap;

use super::identity::NewMachine;
use crate::environment::{Id, Root};
use crate::error::{Error, Result};
use crate::layout::{Layout, MountPoint};

/// What makes a copy different from its source.
#[derive(Debug)]
pub struct Localization<'a> {
    /// The copy's identity.
    pub id: Id,
    /// Where its file systems lie.
    pub layout: &'a Layout,
    /// UUIDs of its own file systems.
    pub uuids: &'a BTreeMap<MountPoint, String>,
    /// UUIDs of its own swap spaces.
    pub swap_uuids: &'a [String],
    /// UUIDs of the file systems that `LABEL=` and `PARTLABEL=` of the source's fstab stand for.
    pub labels: &'a BTreeMap<String, String>,
    /// The source's root.
    pub source_root: &'a Root,
    /// The source's fstab, where the target has an older one of its own: it is never seen with the
    /// source's.
    pub source_fstab: Option<&'a str>,
    /// Also make it a machine of its own.
    pub new_machine: Option<&'a NewMachine>,
}

impl Localization<'_> {
    /// The UUID of its root file system.
    ///
    /// # Errors
    /// It has none.
    pub fn root_uuid(&self) -> Result<&str> {
        let uuid = self.uuids.get(&MountPoint::root()).map(String::as_str);
        uuid.ok_or_else(|| {
            Error::Failed("the target's root file system has no UUID: make it anew".into())
        })
    }

    /// Its root has the type of the source's.
    pub fn keeps_root_type(&self) -> bool {
        self.layout
            .at(&MountPoint::root())
            .is_some_and(|t| t.fs_type.as_str() == self.source_root.fs_type)
    }
}
