//! A file system of the target whose blocks are copied: it comes with its UUID, its label and, on a
//! root, with a descriptor that says it is incomplete; then it is grown to its device and checked.

use std::path::{Path, PathBuf};

use crate::block_copy::{self, Identity};
use crate::environment::{BootEnvironment, DESCRIPTOR_PATH, Descriptor};
use crate::error::{Error, Result};
use crate::layout::MountPoint;
use crate::plan::Report;
use crate::populate::source;
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::storage::mounts::Mounts;
use crate::storage::probe::Kind;
use crate::storage::volume::{Access, FileSystem, Volume};
use crate::tool::Tool;

/// A file system whose blocks are copied.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    /// Its mount point in the source.
    pub(super) source: MountPoint,
    /// The device it is on.
    pub(super) device: PathBuf,
    /// The device that it is copied to.
    pub(super) target: Volume,
    /// What it is.
    pub(super) kind: Kind,
    /// Bytes to copy; not known before a journal is replayed.
    pub(super) bytes: Option<u64>,
}

impl Blocks {
    /// Copies them from `found`; `descriptor` is the copy's.
    pub(super) fn copy(
        &self,
        session: &Session,
        found: &BootEnvironment,
        descriptor: &Descriptor,
        identity: Identity,
        report: &mut dyn Report,
    ) -> Result<()> {
        let Session { host, inventory, work, .. } = session;
        // While it is mounted like this, it cannot be mounted for writing.
        let mounted = source::mount(host, inventory, found, &self.source, &work.source)?;
        let edits = if self.source.is_root() {
            let root = RootDir::open(mounted.dir())?;
            block_copy::overwrite(&root, DESCRIPTOR_PATH, &unfinished(descriptor))?.map_err(
                |why| {
                    Error::Failed(format!(
                        "the blocks of {} cannot be copied: {why}; use --method copy",
                        self.device.display()
                    ))
                },
            )?
        } else {
            Vec::new()
        };
        let request = block_copy::BlockCopyRequest {
            source: &self.device,
            target: self.target.node(),
            identity,
            edits,
        };
        block_copy::copy(&request, report)?;
        mounted.unmount()
    }

    /// Grows the copy to its device. `directory` is free to mount it on.
    pub(super) fn grow(&self, directory: &Path) -> Result<()> {
        if self.kind == Kind::Xfs {
            // It grows only while it is mounted.
            let copy =
                FileSystem { volume: self.target.clone(), kind: self.kind, uuid: String::new() };
            let mounted = copy.show(&Mounts::default(), Access::Write, directory)?;
            Tool::new("xfs_growfs").arg("-d").arg(mounted.dir()).run()?;
            return mounted.unmount();
        }
        Tool::new("resize2fs").arg("-f").arg(self.target.node()).run()?;
        Ok(())
    }

    /// Checks the copy.
    pub(super) fn check(&self) -> Result<()> {
        let check = match self.kind {
            Kind::Xfs => Tool::new("xfs_repair").arg("-n"),
            _ => Tool::new("e2fsck").arg("-fn"),
        };
        check.arg(self.target.node()).run().map_err(|error| {
            Error::Failed(format!(
                "the copy of {} is damaged, as its source may be: check that, or use --method \
                copy ({error})",
                self.device.display()
            ))
        })?;
        Ok(())
    }
}

/// The text of the descriptor until the copy has one of its own. It has to fit into the place of
/// the source's, which says more.
pub(super) fn unfinished(descriptor: &Descriptor) -> String {
    // Names and dates have no characters that TOML would escape.
    format!(
        "format={}\nid=\"{}\"\nname=\"{}\"\ncreated=\"{}\"\nstate=\"incomplete\"\noperation=\"create\"\n",
        descriptor.format, descriptor.id, descriptor.name, descriptor.created
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{Operation, State};

    #[test]
    fn the_text_of_an_unfinished_copy_is_short_and_says_who_it_is() {
        let descriptor = Descriptor::new("a-name-that-is-longer".parse().unwrap(), None);
        let text = unfinished(&descriptor);
        assert_eq!(Descriptor::parse(&text).unwrap(), descriptor);
        assert_eq!(
            (descriptor.state, descriptor.operation),
            (State::Incomplete, Some(Operation::Create))
        );
        let mut source = Descriptor::new("source".parse().unwrap(), None);
        source.state = State::Complete;
        source.operation = None;
        assert!(text.len() <= source.render().unwrap().len());
    }
}
