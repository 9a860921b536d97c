//! A file system of the target whose blocks are copied. The copy has its own UUID and label and, on
//! a root, a descriptor that marks the BE as incomplete. It is then grown to its device and
//! checked.

use std::path::{Path, PathBuf};

use crate::block_copy::{self, Identity};
use crate::environment::{BootEnvironment, DESCRIPTOR_PATH, Descriptor};
use crate::error::{Error, Result};
use crate::layout::MountPoint;
use crate::plan::Report;
use crate::populate::source;
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::storage::hold::Holds;
use crate::storage::mounts::Mounts;
use crate::storage::probe::Kind;
use crate::storage::provision::Provision;
use crate::storage::volume::{Access, FileSystem};
use crate::tool::Tool;

/// A file system whose blocks are copied.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    /// Its mount point in the source.
    pub(super) source: MountPoint,
    /// The device it is on.
    pub(super) device: PathBuf,
    /// The device that it is copied to.
    pub(super) target: Provision,
    /// Its type.
    pub(super) kind: Kind,
    /// Bytes to copy, unless its journal has to be replayed first.
    pub(super) bytes: Option<u64>,
}

impl Blocks {
    /// Copies the blocks from `environment`. The copy gets `descriptor`.
    pub(super) fn copy(
        &self,
        session: &Session,
        environment: &BootEnvironment,
        descriptor: &Descriptor,
        identity: Identity,
        holds: &Holds,
        report: &mut dyn Report,
    ) -> Result<()> {
        // While the source is mounted read-only, it cannot be mounted for writing.
        let mounted = source::mount(session, environment, &self.source)?;
        let edits = if self.source.is_root() {
            let root = RootDir::open(mounted.dir())?;
            block_copy::edits_to_replace(&root, DESCRIPTOR_PATH, &unfinished(descriptor))?.map_err(
                |why| Error::BlockCopy {
                    device: self.device.display().to_string(),
                    why: why.to_string(),
                },
            )?
        } else {
            Vec::new()
        };
        let request = block_copy::BlockCopyRequest {
            source: &self.device,
            target: self.target.hold(holds)?,
            identity,
            edits,
        };
        block_copy::copy(&request, report)?;
        mounted.unmount()
    }

    /// Grows the copy to its device. It may be mounted on `directory`.
    pub(super) fn grow(&self, holds: &Holds, directory: &Path) -> Result<()> {
        let hold = self.target.hold(holds)?;
        if self.kind == Kind::Xfs {
            // xfs grows only while it is mounted.
            let copy = FileSystem {
                volume: self.target.volume().clone(),
                kind: self.kind,
                uuid: String::new(),
            };
            let mounted = copy.show(&Mounts::default(), Access::Write(hold), directory)?;
            Tool::new("xfs_growfs").arg("-d").arg(mounted.dir()).run()?;
            return mounted.unmount();
        }
        hold.argument_of(Tool::new("resize2fs").arg("-f")).run()?;
        Ok(())
    }

    /// Checks the copy.
    pub(super) fn check(&self, holds: &Holds) -> Result<()> {
        let check = match self.kind {
            Kind::Xfs => Tool::new("xfs_repair").arg("-n"),
            _ => Tool::new("e2fsck").arg("-fn"),
        };
        self.target.hold(holds)?.argument_of(check).run().map_err(|error| {
            let device = self.device.display().to_string();
            Error::DamagedCopy { device, source: error }
        })?;
        Ok(())
    }
}

/// The text of the descriptor that the copy has first. It is written over that of the source, which
/// is longer.
pub(super) fn unfinished(descriptor: &Descriptor) -> String {
    // Names and dates contain no characters that TOML escapes.
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
    fn the_descriptor_of_an_unfinished_copy_is_short_and_identifies_it() {
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
