//! The session of an operation: the lock, the inventory, and private mounts.

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

/// The session of an operation that fills a target. No other operation writes while it exists, and
/// no other program sees what it mounts.
pub(crate) struct Session<'a> {
    pub(crate) host: &'a Host,
    pub(crate) work: WorkDirs,
    pub(crate) inventory: Inventory,
    /// The mount namespace that the session was started in.
    pub(crate) outside: Namespace,
    pub(crate) lock: Lock,
}

impl<'a> Session<'a> {
    /// # Errors
    /// The disks cannot be read, or the program does not run as root.
    pub(crate) fn new(host: &'a Host, verb: &str, lock: Lock) -> Result<Self> {
        let inventory = discover::discover(host)?;
        let outside = Namespace::current()?;
        namespace::enter_private_namespace()?;
        Ok(Session { host, work: WorkDirs::new(host, verb)?, inventory, outside, lock })
    }

    /// Runs a step. During one that is long and writes no boot entry and no loader file, a trial
    /// can be confirmed.
    ///
    /// # Errors
    /// Those of the step, and of [`Lock::without_boot_lock`].
    pub(crate) fn run_step(&self, is_long: bool, step: impl FnOnce() -> Result<()>) -> Result<()> {
        if is_long { self.lock.without_boot_lock(step)? } else { step() }
    }
}
