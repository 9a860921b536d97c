//! A loader that is installed again before a switch, because its files or its entry are not as they
//! should be.

use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::environment::{BootEnvironment, Inventory};
use crate::error::Result;
use crate::host::Host;
use crate::loader::{Loader, LoaderProblem};

/// The problems for which the loader is installed again. What keeps one that works from being
/// written again is no reason against the switch.
pub(super) fn corrected(
    loader: &dyn Loader,
    environment: &BootEnvironment,
    problems: Vec<LoaderProblem>,
) -> Result<Vec<LoaderProblem>> {
    let proved = if problems.is_empty() { Ok(()) } else { loader.prove(environment).map(drop) };
    match proved {
        Ok(()) => Ok(problems),
        Err(why) if problems.iter().all(LoaderProblem::is_harmless) => {
            log::warn!("the loader of '{}' is not written again: {why}", environment.name());
            Ok(Vec::new())
        }
        Err(why) => Err(why),
    }
}

/// Mounts what the BE's own programs read to make its loader's image.
///
/// # Errors
/// As [`MountedEnvironment::mount`].
pub(super) fn mount(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Result<MountedEnvironment> {
    // They only read: the image is written by Lifeboat.
    let mode = MountMode::ReadOnly;
    MountedEnvironment::mount_for_commands(host, inventory, environment, mode, &[])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::discover;
    use crate::loader;
    use crate::loader::testing::{Firmware, environment};
    use crate::storage::device::Devices;
    use crate::storage::testing::{RootFileSystem, debian_root, in_namespace, is_root};

    #[test]
    fn activating_writes_to_no_file_system_of_the_be() {
        if !is_root() {
            return;
        }
        let root = RootFileSystem::make("ext4", |dir, uuid| {
            debian_root(dir, &format!("UUID={uuid} / ext4 defaults 0 1\n"), uuid);
        });
        let devices = Devices::scan(&Host::local()).unwrap();
        let ours = devices.iter().filter(|d| d.node == root.device.node).cloned().collect();
        let inventory = discover::look_at(ours);
        in_namespace(|| {
            let mounted = mount(&Host::local(), &inventory, &inventory.environments[0]).unwrap();
            assert!(mounted.root().join("etc/fstab").exists());
            assert!(std::fs::write(mounted.root().join("etc/new"), "x").is_err());
        });
    }

    #[test]
    fn a_loader_that_works_and_cannot_be_written_again_does_not_prevent_a_switch() {
        let (firmware, environment) =
            (Firmware::new(), environment("second", "aaaa-02").complete());
        firmware.set("SecureBoot", vec![1]);
        let (host, inventory) = (firmware.host(), Inventory::default());
        let loader = loader::for_environment(&host, &inventory, &environment).unwrap();
        let corrected = |problem| corrected(&*loader, &environment, vec![problem]);
        assert_eq!(corrected(LoaderProblem::Outdated).unwrap(), []);
        assert_eq!(corrected(LoaderProblem::NoEntry).unwrap_err().exit_status(), 3);
    }
}
