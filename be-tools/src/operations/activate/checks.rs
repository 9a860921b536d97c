//! What must be true of a BE before a switch to it, whatever its loader.

use crate::environment::{BootEnvironment, Descriptor, Problem};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::loader;

/// The descriptor of a complete BE.
///
/// # Errors
/// [`Refusal::Unmanaged`] or [`Refusal::Incomplete`].
pub fn complete_descriptor(environment: &BootEnvironment) -> Result<&Descriptor> {
    let Some(descriptor) = &environment.descriptor else {
        let name = environment.reference.clone();
        let way_out = format!("start it with `be boot {name}` and run `be adopt` there");
        return Err(Refusal::Unmanaged { name, way_out }.into());
    };
    descriptor.refuse_incomplete()?;
    Ok(descriptor)
}

/// The reasons why a BE should not be started. The activation itself corrects those of the loader,
/// which are in `corrected`.
pub fn faults(
    environment: &BootEnvironment,
    descriptor: &Descriptor,
    corrected: &[loader::LoaderProblem],
) -> Vec<Problem> {
    let is_corrected =
        |problem: &Problem| corrected.iter().any(|other| other.code() == problem.code);
    let remaining = environment.problems.iter().filter(|problem| !is_corrected(problem));
    let mut faults: Vec<Problem> = remaining.cloned().collect();
    if descriptor.lost_count() > 0 {
        let text = match &descriptor.lost[..] {
            [path] => format!("{} could not be read when it was copied", path.display()),
            _ => format!("{} files could not be read when it was copied", descriptor.lost_count()),
        };
        faults.push(Problem::new("files-lost", text));
    }
    faults
}

/// Whether a watchdog of this machine is active: one that was not started resets nothing
/// (Documentation/ABI/testing/sysfs-class-watchdog). The one that the rescue image feeds is stopped
/// before the machine restarts.
pub fn watchdog_runs(host: &Host) -> bool {
    if host.is_rescue_image() {
        return false;
    }
    let Ok(devices) = std::fs::read_dir(host.sys.join("class/watchdog")) else { return false };
    devices.flatten().any(|d| {
        std::fs::read_to_string(d.path().join("state")).is_ok_and(|s| s.trim() == "active")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{FileSystemUse, Inventory, Operation, State};
    use crate::error::Error;
    use crate::loader::testing::{Firmware, environment};

    fn complete() -> BootEnvironment {
        environment("second", "aaaa-02").complete()
    }

    #[test]
    fn unmanaged_and_incomplete_ones_are_refused_with_the_way_out() {
        let mut environment = complete();
        assert!(complete_descriptor(&environment).is_ok());
        let descriptor = environment.descriptor.as_mut().unwrap();
        (descriptor.state, descriptor.operation) = (State::Incomplete, Some(Operation::Create));
        let refused = complete_descriptor(&environment).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::Incomplete { .. })), "{refused}");
        environment.descriptor = None;
        let refused = complete_descriptor(&environment).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::Unmanaged { .. })), "{refused}");
        assert!(refused.to_string().contains("be boot second"), "{refused}");
    }

    #[test]
    fn one_of_two_with_the_same_id_is_refused() {
        let environment = complete();
        let mut inventory =
            Inventory { environments: vec![environment.clone()], ..Inventory::default() };
        assert!(inventory.refuse_twin(&environment).is_ok());
        let mut twin = environment.clone();
        twin.root.device = "/dev/lifeboat-none9".into();
        inventory.environments.push(twin);
        let refused = inventory.refuse_twin(&environment).unwrap_err();
        assert!(matches!(refused, Error::Refused(Refusal::SameId { .. })), "{refused}");
    }

    #[test]
    fn each_fault_has_a_code_and_a_sentence() {
        let mut environment = complete();
        let all = |e: &BootEnvironment| {
            faults(e, e.descriptor.as_ref().unwrap(), &[loader::LoaderProblem::NoEsp])
        };
        assert!(all(&environment).is_empty());
        environment.problems = vec![
            Problem::new("no-initramfs", "its kernel has no initramfs"),
            loader::LoaderProblem::NoEsp.into(),
        ];
        environment.descriptor.as_mut().unwrap().lost = vec!["/var/lib/a".into(), "/b".into()];
        environment.file_systems.push(FileSystemUse {
            device: None,
            fs_type: "swap".into(),
            shared: true,
            ..FileSystemUse::example("none", "UUID=1")
        });
        assert_eq!(
            all(&environment),
            [
                Problem::new("no-initramfs", "its kernel has no initramfs"),
                Problem::new("files-lost", "2 files could not be read when it was copied")
            ]
        );
    }

    #[test]
    fn a_watchdog_that_is_not_active_does_not_count() {
        let firmware = Firmware::new();
        let host = firmware.host();
        assert!(!watchdog_runs(&host));
        let directory = host.sys.join("class/watchdog/watchdog0");
        std::fs::create_dir_all(&directory).unwrap();
        assert!(!watchdog_runs(&host));
        for (state, expected) in [("inactive\n", false), ("active\n", true)] {
            std::fs::write(directory.join("state"), state).unwrap();
            assert_eq!(watchdog_runs(&host), expected, "{state}");
        }
        // The rescue image stops the one that it feeds before the machine restarts.
        std::fs::create_dir_all(host.run.join("rescue-init")).unwrap();
        std::fs::write(host.run.join("rescue-init/supervisor"), "").unwrap();
        assert!(!watchdog_runs(&host));
    }
}
