//! Everything that `be create` decided and checked before the first write.

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
    /// Of the layout's file systems.
    pub(super) uuids: BTreeMap<MountPoint, String>,
    /// Of what the replaced one has on the target's devices. While those are made one after the
    /// other, what is not made yet belongs to the target by them.
    pub(super) replaced_uuids: Vec<String>,
    /// Of the layout's swap spaces, in their order.
    pub(super) swap_uuids: Vec<String>,
    /// Devices of the source whose journal has to be replayed first.
    pub(super) journals: Vec<PathBuf>,
    /// File systems of the target that are filled by blocks, by their mount points.
    pub(super) blocks: BTreeMap<MountPoint, Blocks>,
    /// What the files to copy come to.
    pub(super) totals: Totals,
    /// What the loader has to say.
    pub(super) notes: Vec<String>,
    /// What is run around the copy.
    pub(super) hooks: Hooks,
    /// The new BE as it will be found afterwards.
    pub(super) target: BootEnvironment,
    /// As it is written first.
    pub(super) descriptor: Descriptor,
}

impl Job<'_> {
    /// It gets a loader and a boot entry.
    pub(super) fn is_bootable(&self) -> bool {
        self.request.boot_entry && self.source.is_some()
    }

    /// What the source is called once it is adopted; empty where there is none.
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
