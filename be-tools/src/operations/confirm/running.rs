//! The running BE, read from its own descriptor. No disk except its ESP's is read, because this may
//! run early at boot.

use std::path::Path;

use crate::environment::{BootEnvironment, Descriptor, Inventory, Trial};
use crate::error::Result;
use crate::host::Host;
use crate::loader::{self, Loader};
use crate::root_dir::RootDir;
use crate::storage::device::Devices;
use crate::storage::namespace;

/// The running BE.
pub struct RunningEnvironment {
    /// Its descriptor.
    pub descriptor: Descriptor,
    environment: BootEnvironment,
    inventory: Inventory,
}

impl RunningEnvironment {
    /// The running BE, or `None` if the running system has no descriptor. The ESP is one of
    /// `devices`.
    ///
    /// # Errors
    /// The descriptor cannot be read.
    pub fn find(devices: Devices) -> Result<Option<Self>> {
        let Some(descriptor) = descriptor()? else { return Ok(None) };
        let environment = BootEnvironment {
            descriptor: Some(descriptor.clone()),
            running: true,
            ..BootEnvironment::empty(Path::new("/"))
        };
        let inventory = Inventory { devices, ..Inventory::default() };
        Ok(Some(RunningEnvironment { descriptor, environment, inventory }))
    }

    /// Its loader.
    ///
    /// # Errors
    /// [`Refusal::UnknownLoader`](crate::Refusal::UnknownLoader)
    pub fn loader<'a>(&'a self, host: &'a Host) -> Result<Box<dyn Loader + 'a>> {
        loader::for_environment(host, &self.inventory, &self.environment)
    }
}

/// The descriptor of the running system.
///
/// # Errors
/// The descriptor cannot be read.
pub fn descriptor() -> Result<Option<Descriptor>> {
    Descriptor::load(&RootDir::open(Path::new("/"))?)
}

/// Notes in the descriptor of the BE mounted at `root`, which runs, that it has run. Nothing is
/// written if that is known, or if it has no descriptor. The lock of boot entries is held, under
/// which every verb changes the descriptor of the running system.
///
/// # Errors
/// The descriptor cannot be read or written.
pub fn note_changed(root: &Path) -> Result<()> {
    let root = RootDir::open(root)?;
    Descriptor::load(&root)?.map_or(Ok(()), |mut descriptor| descriptor.note_changed(&root))
}

/// As [`note_changed`], once the start is confirmed.
///
/// # Errors
/// Those of [`note_changed`].
pub fn note_confirmed(root: &Path) -> Result<()> {
    let root = RootDir::open(root)?;
    Descriptor::load(&root)?.map_or(Ok(()), |mut descriptor| descriptor.note_confirmed(&root))
}

/// The state of the running BE's trial.
///
/// # Errors
/// An ESP or the variables cannot be read.
pub fn trial(host: &Host) -> Result<Option<Trial>> {
    namespace::in_private_namespace(|| {
        let running = RunningEnvironment::find(Devices::scan(host)?)?;
        running.map_or(Ok(None), |running| running.loader(host)?.running_trial())
    })
}

/// Whether the machine would start the running BE again. No disk is read.
///
/// # Errors
/// The descriptor or the variables cannot be read.
pub fn is_default(host: &Host) -> Result<bool> {
    let running = RunningEnvironment::find(Devices::default())?;
    running.map_or(Ok(false), |running| running.loader(host)?.is_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_environment_that_came_up_is_known_to_have_run() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        note_changed(directory.path()).unwrap();
        assert_eq!(Descriptor::load(&root).unwrap(), None, "it is unmanaged");
        Descriptor::new("second".parse().unwrap(), None).complete(&root).unwrap();
        note_changed(directory.path()).unwrap();
        let noted = Descriptor::load(&root).unwrap().unwrap();
        assert!(noted.changed.is_some());
        note_changed(directory.path()).unwrap();
        assert_eq!(Descriptor::load(&root).unwrap().unwrap(), noted);
    }
}
