//! What an operation begins with: nobody else writes, and what it mounts only it sees.

pub mod hooks;
pub mod lock;
pub mod work_dirs;

use crate::discover;
use crate::environment::Inventory;
use crate::error::Result;
use crate::host::Host;
use crate::storage::namespace::{self, Namespace};
use lock::Lock;
use work_dirs::WorkDirs;

/// What an operation that fills a target begins with: nobody else writes, and what it mounts only
/// it sees.
pub(crate) struct Session<'a> {
    pub(crate) host: &'a Host,
    pub(crate) work: WorkDirs,
    pub(crate) inventory: Inventory,
    /// The mounts that everybody sees.
    pub(crate) outside: Namespace,
    _lock: Lock,
}

impl<'a> Session<'a> {
    /// # Errors
    /// Another operation is under way, the disks cannot be read, and without root.
    pub(crate) fn new(host: &'a Host, verb: &str) -> Result<Self> {
        let lock = Lock::acquire(host)?;
        let inventory = discover::discover(host)?;
        let outside = Namespace::current()?;
        namespace::enter_private_namespace()?;
        Ok(Session { host, work: WorkDirs::new(host, verb)?, inventory, outside, _lock: lock })
    }
}
