//! A file system of the target whose blocks are copied: it comes with its UUID, its label and, on a
//! root, with a descriptor that says it is incomplete; then it is grown to its device and checked.

use super::Job;
use super::method::Blocks;
use crate::block_copy::{self, Identity};
use crate::environment::{DESCRIPTOR_PATH, Descriptor};
use crate::error::{Error, Result};
use crate::layout::TargetFileSystem;
use crate::plan::{Report, go_on};
use crate::populate::{self, source};
use crate::root_dir::RootDir;
use crate::session::Session;
use crate::storage::probe::Kind;
use crate::tool::Tool;

impl Job<'_> {
    pub(super) fn copy_blocks(
        &self,
        session: &Session,
        (target, blocks): (&TargetFileSystem, &Blocks),
        label: Option<&str>,
        report: &mut dyn Report,
    ) -> Result<()> {
        let Session { host, inventory, work, .. } = session;
        let Some(found) = &self.source else { return Ok(()) };
        report.part(&format!("copying the blocks of {} of '{}'", blocks.source, found.name()));
        // While it is mounted like this, nobody else can mount it for writing.
        let mounted = source::mount(host, inventory, found, &blocks.source, &work.source)?;
        let edits = if blocks.source.is_root() {
            let root = RootDir::open(mounted.dir())?;
            block_copy::overwrite(&root, DESCRIPTOR_PATH, &unfinished(&self.descriptor))?.map_err(
                |why| {
                    Error::Failed(format!(
                        "the blocks of {} cannot be copied: {why}; use --method copy",
                        blocks.device.display()
                    ))
                },
            )?
        } else {
            Vec::new()
        };
        let uuid = &self.uuids[&target.mountpoint];
        let uuid =
            uuid::Uuid::parse_str(uuid).map_err(|e| Error::Failed(format!("UUID {uuid}: {e}")))?;
        let request = block_copy::Request {
            source: &blocks.device,
            target: target.node(),
            identity: Identity { uuid, label: label.unwrap_or_default().to_owned() },
            edits,
        };
        block_copy::copy(&request, report)?;
        mounted.unmount()?;
        go_on()?;
        report.part(&format!("growing and checking {}", target.node().display()));
        if blocks.kind == Kind::Xfs {
            // It grows only while it is mounted.
            let mounted = populate::mount_alone(target, &self.uuids, &work.alone)?;
            Tool::new("xfs_growfs").arg("-d").arg(mounted.dir()).run()?;
            mounted.unmount()?;
        } else {
            Tool::new("resize2fs").arg("-f").arg(target.node()).run()?;
        }
        go_on()?;
        let check = match blocks.kind {
            Kind::Xfs => Tool::new("xfs_repair").arg("-n"),
            _ => Tool::new("e2fsck").arg("-fn"),
        };
        check.arg(target.node()).run().map_err(|error| {
            Error::Failed(format!(
                "the copy of {} is damaged, as its source may be: check that, or use --method \
                copy ({error})",
                blocks.device.display()
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
