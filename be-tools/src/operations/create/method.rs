//! Decides for each file system of the target whether blocks or files are copied.

use std::path::Path;

use super::blocks::{self, Blocks};
use super::job::Job;
use super::request::Method;
use crate::block_copy::{self, Unfit};
use crate::environment::DESCRIPTOR_PATH;
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::layout::{MountPoint, TargetFileSystem, TreeCopy};
use crate::populate::source;
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::storage::device::BlockDevice;
use crate::storage::mounts::Mounts;
use crate::storage::usage;

impl Job<'_> {
    /// Decides which file systems of the target are copied by blocks.
    ///
    /// # Errors
    /// [`Refusal::BlocksUnsupported`] if that was asked for and is not possible.
    pub(super) fn choose_blocks(&mut self, session: &Session) -> Result<()> {
        if self.source.is_none() || !matches!(self.request.method, Method::Auto | Method::Block) {
            return Ok(());
        }
        let copies = self.layout.copies();
        for file_system in &self.layout.file_systems {
            match self.by_blocks(session, &copies, file_system) {
                Ok(found) => {
                    self.blocks.insert(file_system.mountpoint.clone(), found);
                }
                Err(why) if self.request.method == Method::Block => {
                    let mountpoint = file_system.mountpoint.to_string();
                    return Err(
                        Refusal::BlocksUnsupported { mountpoint, why: why.to_string() }.into()
                    );
                }
                Err(why) => log::info!("{} is copied by files: {why}", file_system.mountpoint),
            }
        }
        Ok(())
    }

    fn by_blocks(
        &self,
        session: &Session,
        copies: &[TreeCopy],
        target: &TargetFileSystem,
    ) -> Result<Blocks, Unfit> {
        let Session { host, inventory, .. } = session;
        let unfit = |why: String| Err(Unfit(why));
        let failed = |error: crate::Error| Unfit(error.to_string());
        let Some(found) = &self.source else { return unfit("there is no source".into()) };
        if !self.request.selection.is_empty() {
            return unfit("--exclude and --include apply to files only".into());
        }
        let source = whole_source(copies, target)
            .ok_or_else(|| Unfit("the file system is split or merged".into()))?;
        let file_system = source::file_system(inventory, found, source).map_err(failed)?;
        let (device, kind) = (&file_system.volume.device, file_system.kind);
        let becomes = &target.provision;
        if kind.name() != target.fs_type.as_str() {
            return unfit(format!(
                "{} holds {}, and the copy is to be {}",
                device.node.display(),
                kind.description(),
                target.fs_type
            ));
        }
        refuse_written(host, device)?;
        let blocks = block_copy::inspect(&device.node)?;
        if becomes.size() < blocks.size() {
            return unfit(format!(
                "{} is smaller than {}",
                becomes.node().display(),
                device.node.display()
            ));
        }
        if u64::from(becomes.logical_block_size()) > blocks.sector() {
            return unfit(format!("{} has larger sectors", becomes.node().display()));
        }
        if source.is_root() {
            if found.descriptor.is_none() || self.adoption.is_some() {
                return unfit(format!(
                    "the source has no descriptor that the descriptor of an incomplete copy could \
                    replace (`be adopt` in '{}' writes one)",
                    found.name()
                ));
            }
            let mounted = source::mount(session, found, source).map_err(failed)?;
            let root = RootDir::open(mounted.dir()).map_err(failed)?;
            let text = blocks::unfinished(&self.descriptor);
            block_copy::edits_to_replace(&root, DESCRIPTOR_PATH, &text).map_err(failed)??;
        }
        let dirty = device.super_block().is_some_and(|found| found.dirty);
        let bytes = if dirty { None } else { Some(block_copy::measure(&device.node)?) };
        Ok(Blocks {
            source: source.clone(),
            device: device.node.clone(),
            target: target.provision.clone(),
            kind,
            bytes,
        })
    }
}

/// The file system of the source that `target` is a copy of, if neither is split or merged.
fn whole_source<'a>(copies: &'a [TreeCopy], target: &TargetFileSystem) -> Option<&'a MountPoint> {
    let is_empty = |path: &Path| path.as_os_str().is_empty();
    let mut into = copies.iter().filter(|copy| copy.target == target.mountpoint);
    let (Some(copy), None) = (into.next(), into.next()) else { return None };
    let is_all = is_empty(&copy.from) && is_empty(&copy.to) && copy.without.is_empty();
    let parts = copies.iter().filter(|other| other.source == copy.source).count();
    (is_all && parts == 1).then_some(&copy.source)
}

/// Refuses a device to which something may write, in whichever mount namespace.
fn refuse_written(host: &Host, device: &BlockDevice) -> Result<(), Unfit> {
    let failed = |error: crate::Error| Unfit(error.to_string());
    let mounts = Mounts::read(host).map_err(failed)?;
    let mut seen = false;
    for mount in mounts.of(device) {
        if !mount.is_file_system_read_only() {
            return Err(Unfit(format!(
                "{} is mounted for writing on {}",
                device.node.display(),
                mount.mount_point.display()
            )));
        }
        seen = true;
    }
    if seen {
        return Ok(());
    }
    // A device that is in use but not in this mount table is mounted in another namespace.
    usage::refuse_busy(&device.node)
        .map_err(|error| Unfit(format!("{} is in use ({error})", device.node.display())))
}
