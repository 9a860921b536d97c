//! Everything that `be refresh` decided and checked before the first write.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::request::RefreshRequest;
use crate::environment::{BootEnvironment, Descriptor};
use crate::layout::{Layout, MountPoint, TargetFileSystem};
use crate::populate::Population;
use crate::session::Session;
use crate::session::hooks::Hooks;
use crate::tree::measure::Totals;

/// Settings that are made again from the source's, so that the target never has those of the
/// source.
pub(super) const OWN_SETTINGS: [&str; 2] = ["/etc/fstab", "/etc/default/grub.d/lifeboat.cfg"];

pub(super) struct Job<'a> {
    pub(super) request: &'a RefreshRequest,
    pub(super) source: BootEnvironment,
    pub(super) target: BootEnvironment,
    /// As it was found.
    pub(super) descriptor: Descriptor,
    pub(super) layout: Layout,
    /// Of the layout's file systems.
    pub(super) uuids: BTreeMap<MountPoint, String>,
    /// Of its own swap spaces.
    pub(super) swap_uuids: Vec<String>,
    /// Devices of the source whose journal has to be replayed first.
    pub(super) journals: Vec<PathBuf>,
    /// About how many entries there are.
    pub(super) totals: Totals,
    /// What makes it another machine than the source, and stays.
    pub(super) kept: Vec<PathBuf>,
    /// What is run around the copy.
    pub(super) hooks: Hooks,
}

impl Job<'_> {
    /// The file system on which it says of itself what it is.
    pub(super) fn root(&self) -> Option<&TargetFileSystem> {
        self.layout.at(&MountPoint::root())
    }

    pub(super) fn population<'a>(&'a self, session: &'a Session) -> Population<'a> {
        let (source, layout, uuids, swap_uuids) =
            (&self.source, &self.layout, &self.uuids, &self.swap_uuids);
        Population { session, source, layout, uuids, swap_uuids }
    }
}
