//! A loader that is installed again before a switch, because its files or its entry are not as they
//! should be.

use std::path::PathBuf;

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

/// Mounts what the BE's own programs need to make its loader.
///
/// # Errors
/// As [`MountedEnvironment::mount`].
pub(super) fn mount(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Result<MountedEnvironment> {
    // Who activates a BE lets it boot, which needs them.
    let writable = ["/usr", "/boot"].map(PathBuf::from);
    let mode = MountMode::ReadWrite;
    MountedEnvironment::mount_for_commands(host, inventory, environment, mode, &writable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader;
    use crate::loader::testing::{Firmware, environment};

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
