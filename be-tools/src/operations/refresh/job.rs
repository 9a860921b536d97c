//! A `be refresh` that is decided and checked, before its first write.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::request::RefreshRequest;
use crate::environment::{BootEnvironment, Descriptor};
use crate::layout::{Layout, MountPoint, TargetFileSystem};
use crate::populate::Population;
use crate::populate::source_system::SourceSystem;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::storage::device::BlockDevice;
use crate::storage::hold::Holds;
use crate::tree::measure::Totals;

pub(super) struct Job<'a> {
    pub(super) request: &'a RefreshRequest,
    pub(super) source: BootEnvironment,
    pub(super) target: BootEnvironment,
    /// The target's descriptor as it was found.
    pub(super) descriptor: Descriptor,
    pub(super) layout: Layout,
    /// Settings that are localized again from those of the source, as paths from the root. They are
    /// not copied, so that the target never has those of the source.
    pub(super) own_settings: Vec<String>,
    /// UUIDs of the layout's file systems.
    pub(super) uuids: BTreeMap<MountPoint, String>,
    /// Mount points of file systems that get a new UUID, the mark that they were made for it.
    pub(super) taken_over: Vec<MountPoint>,
    /// UUIDs of the target's own swap spaces.
    pub(super) swap_uuids: Vec<String>,
    /// Devices of the source whose journal has to be replayed first.
    pub(super) journals: Vec<Arc<BlockDevice>>,
    /// Everything that will be written to.
    pub(super) holds: Holds,
    /// The approximate number of entries.
    pub(super) totals: Totals,
    /// Notes for the plan on snapshots that are left out.
    pub(super) notes: Vec<String>,
    /// Files that make the target a different machine from the source, and are kept.
    pub(super) kept: Vec<PathBuf>,
    /// The hooks around the copy.
    pub(super) hooks: Hooks,
    /// How the source boots.
    pub(super) system: SourceSystem,
}

impl Job<'_> {
    /// The root file system of the target, which has its descriptor.
    pub(super) fn root(&self) -> Option<&TargetFileSystem> {
        self.layout.at(&MountPoint::root())
    }

    pub(super) fn population<'a>(&'a self, session: &'a Session) -> Population<'a> {
        let Job { source, layout, uuids, swap_uuids, holds, system, .. } = self;
        let (source_menu, is_bootable) = (&system.menu, self.target.boot_entry.is_some());
        Population { session, source, layout, uuids, swap_uuids, holds, source_menu, is_bootable }
    }
}
