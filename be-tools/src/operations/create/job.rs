//! A `be create` that is decided and checked, before its first write.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::blocks::Blocks;
use super::request::CreateRequest;
use crate::environment::{BootEnvironment, Descriptor, Inventory};
use crate::layout::{Layout, MountPoint, TargetFileSystem};
use crate::localize::identity;
use crate::operations::adopt::Adoption;
use crate::populate::Population;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::tree::measure::Totals;

pub(super) struct Job<'a> {
    pub(super) request: &'a CreateRequest,
    pub(super) source: Option<BootEnvironment>,
    pub(super) adoption: Option<Adoption>,
    pub(super) replaced: Option<BootEnvironment>,
    pub(super) layout: Layout,
    /// UUIDs of the layout's file systems.
    pub(super) uuids: BTreeMap<MountPoint, String>,
    /// UUIDs of the replaced BE's file systems and swap spaces on the target's devices. An
    /// incomplete target owns those that are not replaced yet by these UUIDs.
    pub(super) replaced_uuids: Vec<String>,
    /// UUIDs of the layout's swap spaces, in their order.
    pub(super) swap_uuids: Vec<String>,
    /// Devices of the source whose journal has to be replayed first.
    pub(super) journals: Vec<PathBuf>,
    /// File systems of the target that are filled by blocks, by their mount points.
    pub(super) blocks: BTreeMap<MountPoint, Blocks>,
    /// The number and size of the files to copy.
    pub(super) totals: Totals,
    /// Notes for the plan: of the loader, and on snapshots that are left out.
    pub(super) notes: Vec<String>,
    /// The hooks around the copy.
    pub(super) hooks: Hooks,
    /// The new BE as discovery will find it.
    pub(super) target: BootEnvironment,
    /// The descriptor that is written first.
    pub(super) descriptor: Descriptor,
}

impl Job<'_> {
    /// Whether the new BE gets a loader and a boot entry.
    pub(super) fn is_bootable(&self) -> bool {
        self.request.boot_entry && self.source.is_some()
    }

    /// The name of the source, after an adoption if there is one. Empty if there is no source.
    pub(super) fn source_name(&self) -> &str {
        match (&self.adoption, &self.source) {
            (Some(adoption), _) => adoption.name().as_str(),
            (None, Some(source)) => source.name(),
            (None, None) => "",
        }
    }

    /// The label of a file system of the target.
    pub(super) fn label(&self, inventory: &Inventory, target: &TargetFileSystem) -> Option<String> {
        let super_blocks = inventory.devices.iter().filter_map(|d| d.super_block());
        let taken = super_blocks.map(|s| s.label.clone()).collect();
        let Descriptor { name, id, .. } = &self.descriptor;
        identity::label(name, *id, &target.mountpoint, target.fs_type, &taken)
    }

    pub(super) fn population<'a>(
        &'a self,
        session: &'a Session,
        source: &'a BootEnvironment,
    ) -> Population<'a> {
        let (layout, uuids, swap_uuids) = (&self.layout, &self.uuids, &self.swap_uuids);
        Population { session, source, layout, uuids, swap_uuids }
    }
}
