//! The step that writes the changed descriptor of a BE, for verbs that write nothing else to it.

use std::fmt::{Display, Formatter};
use std::path::PathBuf;

use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::environment::{BootEnvironment, DESCRIPTOR_PATH, Descriptor, Inventory};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::hold::Holds;
use crate::storage::mounts::Mounts;
use crate::storage::namespace;

/// The descriptor of a BE that must have one, to be written.
///
/// # Errors
/// [`Refusal::Unmanaged`], or [`Refusal::Hibernated`].
pub(super) fn descriptor_of(environment: &BootEnvironment) -> Result<&Descriptor> {
    environment.refuse_hibernated()?;
    environment.descriptor.as_ref().ok_or_else(|| {
        let way_out = "boot it and run `be adopt` there".into();
        Refusal::Unmanaged { name: environment.reference.clone(), way_out }.into()
    })
}

/// Holds these devices of a BE until it is mounted for writing, except those that are mounted.
///
/// # Errors
/// Those of [`Holds::take_unmounted`].
pub(super) fn hold<'a>(
    host: &Host,
    inventory: &Inventory,
    nodes: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<Holds> {
    let devices = nodes.into_iter().filter_map(|node| inventory.devices.by_node(node));
    Holds::take_unmounted(devices, &Mounts::read(host)?)
}

/// A step that writes the descriptor of this BE.
pub(super) struct WriteDescriptor<'a>(pub(super) &'a BootEnvironment);

impl Display for WriteDescriptor<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "write /{DESCRIPTOR_PATH} on {}", self.0.root.device.display())
    }
}

impl WriteDescriptor<'_> {
    /// # Errors
    /// The BE cannot be mounted or written.
    pub(super) fn run(
        &self,
        host: &Host,
        inventory: &Inventory,
        descriptor: &Descriptor,
    ) -> Result<()> {
        namespace::enter_private_namespace()?;
        let mounted =
            MountedEnvironment::mount_root(host, inventory, self.0, MountMode::ReadWrite)?;
        let root = RootDir::open(mounted.root())?;
        descriptor.refuse_other(&root, &self.0.root.device)?;
        descriptor.store(&root)
    }
}
