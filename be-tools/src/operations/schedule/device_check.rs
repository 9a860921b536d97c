//! Whether what has the id of a scheduled BE is the one that was scheduled.

use super::entry::Schedule;
use super::location::Location;
use crate::environment::{BootEnvironment, Inventory};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::root_dir::RootDir;

/// Refuses a BE that an operation was not scheduled for, although it has the id: it lies on another
/// device than the one that was scheduled, or on a removable disk.
///
/// # Errors
/// [`Refusal::AnotherDevice`] and [`Refusal::OnRemovableDisk`], or the schedules cannot be read.
pub fn refuse_unscheduled_device(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Result<()> {
    let Some(descriptor) = &environment.descriptor else { return Ok(()) };
    let schedules = Schedule::all(&RootDir::open(&host.root)?)?;
    let scheduled = schedules.into_iter().find(|schedule| schedule.id == descriptor.id);
    let found = Location::of(inventory, environment);
    Ok(refuse_other(environment, scheduled.as_ref(), &found)?)
}

fn refuse_other(
    environment: &BootEnvironment,
    scheduled: Option<&Schedule>,
    found: &Location,
) -> Result<(), Refusal> {
    let name = environment.reference.clone();
    let was_removable = scheduled.and_then(|s| s.root.as_ref()).is_some_and(|root| root.removable);
    if found.removable && !was_removable {
        let device = environment.root.device.display().to_string();
        let way_out = "`be schedule` it again to accept that".into();
        return Err(Refusal::OnRemovableDisk { name, device, way_out });
    }
    let Some(schedule) = scheduled else { return Ok(()) };
    let is_same =
        |pinned: &Location| Location { removable: found.removable, ..pinned.clone() } == *found;
    if schedule.root.as_ref().is_some_and(is_same) {
        return Ok(());
    }
    let pinned = schedule.root.as_ref().map(ToString::to_string);
    Err(Refusal::AnotherDevice {
        name,
        pinned: pinned.unwrap_or_else(|| "a device that an older be did not note".into()),
        found: found.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::environment;
    use crate::storage::device::BlockDevice;
    use crate::storage::probe::{Kind, SuperBlock};

    fn scheduled(root: Option<Location>) -> Schedule {
        Schedule { root, ..Schedule::example("second") }
    }

    #[test]
    fn what_is_scheduled_runs_only_on_the_device_for_which_it_was_scheduled() {
        let second = environment("second", "aaaa-02").complete();
        let pinned = Location {
            uuid: "aaaa-02".into(),
            part_uuid: "bbbb-02".into(),
            serial: "SER1AL".into(),
            removable: false,
        };
        let schedule = scheduled(Some(pinned.clone()));
        let refused = |found: &Location| refuse_other(&second, Some(&schedule), found).err();
        assert_eq!(refused(&pinned), None);
        for other in [
            Location { uuid: "aaaa-03".into(), ..pinned.clone() },
            Location { part_uuid: "bbbb-03".into(), ..pinned.clone() },
            Location { serial: String::new(), ..pinned.clone() },
        ] {
            let refusal = refused(&other).unwrap();
            assert_eq!(refusal.code(), "another-device");
            let text = refusal.to_string();
            assert!(text.contains(&pinned.to_string()) && text.contains(&other.to_string()));
        }
        let unknown = refuse_other(&second, Some(&scheduled(None)), &pinned).unwrap_err();
        assert_eq!(unknown.code(), "another-device");
        assert_eq!(refuse_other(&second, None, &pinned), Ok(()));
    }

    #[test]
    fn a_removable_disk_is_taken_unattended_only_if_it_was_one_when_it_was_scheduled() {
        let second = environment("second", "aaaa-02").complete();
        let mut device = BlockDevice::example("second", SuperBlock::new(Kind::Ext4));
        (device.removable, device.serial) = (true, "ST1CK".into());
        let inventory = Inventory {
            environments: vec![second.clone()],
            devices: [device].into_iter().collect(),
            ..Inventory::default()
        };
        let found = Location::of(&inventory, &second);
        assert!(found.removable && found.serial == "ST1CK", "{found:?}");
        let fixed = Location { removable: false, ..found.clone() };
        for schedule in [None, Some(scheduled(None)), Some(scheduled(Some(fixed)))] {
            let refused = refuse_other(&second, schedule.as_ref(), &found).unwrap_err();
            assert_eq!(refused.code(), "on-removable-disk", "{schedule:?}");
        }
        let schedule = scheduled(Some(found.clone()));
        assert_eq!(refuse_other(&second, Some(&schedule), &found), Ok(()));
    }
}
