//! A `be refresh` that is decided and checked, before its first write.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::request::RefreshRequest;
use crate::environment::{BootEnvironment, Descriptor};
use crate::layout::{Layout, MountPoint, TargetFileSystem};
use crate::populate::Population;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::tree::measure::Totals;

/// Settings that are localized again from those of the source. They are not copied, so that the
/// target never has those of the source.
pub(super) const OWN_SETTINGS: [&str; 2] = ["/etc/fstab", "/etc/default/grub.d/lifeboat.cfg"];

pub(super) struct Job<'a> {
    pub(super) request: &'a RefreshRequest,
    pub(super) source: BootEnvironment,
    pub(super) target: BootEnvironment,
    /// The target's descriptor as it was found.
    pub(super) descriptor: Descriptor,
    pub(super) layout: Layout,
    /// UUIDs of the layout's file systems.
    pub(super) uuids: BTreeMap<MountPoint, String>,
    /// UUIDs of the target's own swap spaces.
    pub(super) swap_uuids: Vec<String>,
    /// Devices of the source whose journal has to be replayed first.
    pub(super) journals: Vec<PathBuf>,
    /// The approximate number of entries.
    pub(super) totals: Totals,
    /// Notes for the plan on snapshots that are left out.
    pub(super) notes: Vec<String>,
    /// Files that make the target a different machine from the source, and are kept.
    pub(super) kept: Vec<PathBuf>,
    /// The hooks around the copy.
    pub(super) hooks: Hooks,
}

impl Job<'_> {
    /// The root file system of the target, which has its descriptor.
    pub(super) fn root(&self) -> Option<&TargetFileSystem> {
        self.layout.at(&MountPoint::root())
    }

    pub(super) fn population<'a>(&'a self, session: &'a Session) -> Population<'a> {
        let (source, layout, uuids, swap_uuids) =
            (&self.source, &self.layout, &self.uuids, &self.swap_uuids);
        Population { session, source, layout, uuids, swap_uuids }
    }
}
