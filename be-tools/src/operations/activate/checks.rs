//! What must be true of a BE before a switch to it, whatever its loader.

use crate::environment::{BootEnvironment, Descriptor, Inventory, Problem};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::loader;
use crate::storage::device::Devices;
use crate::storage::probe::Kind;

/// The descriptor of a complete BE.
///
/// # Errors
/// The refusal.
pub fn managed(environment: &BootEnvironment) -> Result<&Descriptor> {
    let Some(descriptor) = &environment.descriptor else {
        return Err(Refusal::Other(format!(
            "'{}' is unmanaged, so it has no boot entry of Lifeboat's: start it with `be boot {}` \
            and run `be adopt` there",
            environment.reference, environment.reference
        ))
        .into());
    };
    descriptor.refuse_incomplete()?;
    Ok(descriptor)
}

/// Two with one id share a boot entry and a loader directory: to activate one would take them from
/// the other.
///
/// # Errors
/// The refusal.
pub fn refuse_twin(inventory: &Inventory, environment: &BootEnvironment) -> Result<()> {
    let Some(twin) = inventory.twin_of(environment) else { return Ok(()) };
    Err(Refusal::Other(format!(
        "'{}' and '{}' have the same id, as block copies have: disconnect the disk of one, or `be \
        delete` it",
        environment.reference, twin.reference
    ))
    .into())
}

/// Why it should not be started, one sentence each. Faults of the loader, in `put_right`, end with
/// the activation.
pub fn faults(
    environment: &BootEnvironment,
    descriptor: &Descriptor,
    devices: &Devices,
    put_right: &[loader::LoaderProblem],
) -> Vec<String> {
    let goes = |problem: &Problem| put_right.iter().any(|right| right.code() == problem.code);
    let remaining = environment.problems.iter().filter(|problem| !goes(problem));
    let mut faults: Vec<String> = remaining.map(ToString::to_string).collect();
    if descriptor.lost_count() > 0 {
        faults.push(match &descriptor.lost[..] {
            [one] => format!("{} could not be read when it was copied", one.display()),
            _ => format!("{} files could not be read when it was copied", descriptor.lost_count()),
        });
    }
    for swap in environment.file_systems.iter().filter(|f| f.fs_type == "swap") {
        let device = swap.device.as_ref().and_then(|d| devices.by_node(d));
        if device.and_then(|d| d.content.kind()) == Some(Kind::Hibernation) {
            faults.push(format!(
                "a hibernated system waits on its swap space {}: resume it first",
                swap.spec
            ));
        }
    }
    faults
}

/// A watchdog counts: what is only there resets nothing
/// (Documentation/ABI/testing/sysfs-class-watchdog).
pub fn watchdog_runs(host: &Host) -> bool {
    let Ok(devices) = std::fs::read_dir(host.sys.join("class/watchdog")) else { return false };
    devices.flatten().any(|d| {
        std::fs::read_to_string(d.path().join("state")).is_ok_and(|s| s.trim() == "active")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{FileSystemUse, Operation, State};
    use crate::loader::testing::{Firmware, environment};

    fn complete() -> BootEnvironment {
        environment("second", "aaaa-02").complete()
    }

    #[test]
    fn unmanaged_and_incomplete_ones_are_refused_with_the_way_out() {
        let mut environment = complete();
        assert!(managed(&environment).is_ok());
        let descriptor = environment.descriptor.as_mut().unwrap();
        (descriptor.state, descriptor.operation) = (State::Incomplete, Some(Operation::Create));
        let refused = managed(&environment).unwrap_err();
        assert_eq!(refused.exit_status(), 3);
        assert!(refused.to_string().contains("interrupted create"), "{refused}");
        environment.descriptor = None;
        let refused = managed(&environment).unwrap_err();
        assert_eq!(refused.exit_status(), 3);
        assert!(refused.to_string().contains("be boot second"), "{refused}");
    }

    #[test]
    fn one_of_two_with_the_same_id_is_refused() {
        let environment = complete();
        let mut inventory =
            Inventory { environments: vec![environment.clone()], ..Inventory::default() };
        assert!(refuse_twin(&inventory, &environment).is_ok());
        let mut twin = environment.clone();
        twin.root.device = "/dev/lifeboat-none9".into();
        inventory.environments.push(twin);
        assert_eq!(refuse_twin(&inventory, &environment).unwrap_err().exit_status(), 3);
    }

    #[test]
    fn each_fault_is_a_sentence() {
        let mut environment = complete();
        let all = |e: &BootEnvironment| {
            faults(
                e,
                e.descriptor.as_ref().unwrap(),
                &Devices::default(),
                &[loader::LoaderProblem::NoEsp],
            )
        };
        assert!(all(&environment).is_empty());
        environment.problems = vec![
            Problem::new("no-initramfs", "its kernel has no initramfs"),
            loader::LoaderProblem::NoEsp.into(),
        ];
        environment.descriptor.as_mut().unwrap().lost = vec!["/var/lib/a".into(), "/b".into()];
        environment.file_systems.push(FileSystemUse {
            mountpoint: "none".into(),
            spec: "UUID=1".into(),
            device: None,
            fs_type: "swap".into(),
            options: "sw".into(),
            size: None,
            shared: true,
        });
        assert_eq!(
            all(&environment),
            ["its kernel has no initramfs", "2 files could not be read when it was copied"]
        );
    }

    #[test]
    fn a_watchdog_that_nobody_started_is_none() {
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
    }
}
