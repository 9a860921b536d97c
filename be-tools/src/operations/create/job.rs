//! A `be create` that is decided and checked, before its first write.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::blocks::Blocks;
use super::request::CreateRequest;
use crate::environment::{BootEnvironment, Descriptor, Inventory};
use crate::layout::{Layout, MountPoint, TargetFileSystem};
use crate::localize::identity;
use crate::operations::adopt::Adoption;
use crate::populate::Population;
use crate::populate::source_system::SourceSystem;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Holds;
use crate::tree::measure::Totals;

pub(super) struct Job<'a> {
    pub(super) request: &'a CreateRequest,
    pub(super) source: Option<BootEnvironment>,
    pub(super) adoption: Option<Adoption>,
    pub(super) replaced: Option<BootEnvironment>,
    pub(super) layout: Layout,
    /// UUIDs of the layout's file systems.
    pub(super) uuids: BTreeMap<MountPoint, String>,
    /// UUIDs of the layout's swap spaces, in their order.
    pub(super) swap_uuids: Vec<String>,
    /// Devices of the source whose journal has to be replayed first.
    pub(super) journals: Vec<Arc<BlockDevice>>,
    /// Everything that will be written to.
    pub(super) holds: Holds,
    /// File systems of the target that are filled by blocks, by their mount points.
    pub(super) blocks: BTreeMap<MountPoint, Blocks>,
    /// The number and size of the files to copy.
    pub(super) totals: Totals,
    /// Notes for the plan: of the loader, and on snapshots that are left out.
    pub(super) notes: Vec<String>,
    /// The hooks around the copy.
    pub(super) hooks: Hooks,
    /// How the source boots.
    pub(super) system: SourceSystem,
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
        let Job { layout, uuids, swap_uuids, holds, system, .. } = self;
        let (source_menu, is_bootable) = (&system.menu, self.is_bootable());
        Population { session, source, layout, uuids, swap_uuids, holds, source_menu, is_bootable }
    }
}
