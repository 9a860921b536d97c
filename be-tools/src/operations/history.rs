//! `be history`: what was done to a BE, from the file in it.

use crate::discover;
use crate::environment::history::{self, Done};
use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::error::Result;
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::namespace;

/// What was done to a BE, or the running one, the oldest first.
///
/// # Errors
/// There is no such BE, or it cannot be read.
pub fn history(host: &Host, reference: Option<&str>) -> Result<Vec<Done>> {
    let inventory = discover::discover(host)?;
    let environment = inventory.find_or_running(reference)?;
    if environment.running {
        return history::read(&RootDir::open(&host.root)?);
    }
    namespace::in_private_namespace(|| {
        let mode = MountMode::ReadOnly;
        let mounted = MountedEnvironment::mount_root(host, &inventory, environment, mode)?;
        let root = RootDir::open(mounted.root())?;
        let found = history::read(&root);
        drop(root);
        mounted.unmount()?;
        found
    })
}
