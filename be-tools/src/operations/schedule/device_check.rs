//! Whether what has the id of a scheduled BE is the one that was scheduled, and may be changed while
//! nobody watches.

use super::entry::Schedule;
use super::location::Location;
use crate::environment::{BootEnvironment, Inventory, Trial};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::root_dir::RootDir;

/// Refuses a BE that an operation was not scheduled for, although it has the id: a file system of
/// it, or the root of its `source`, lies on another device than the one that was scheduled, or on a
/// removable disk. A BE that would be tried at the next boot is refused too.
///
/// # Errors
/// [`Refusal::TrialPending`], [`Refusal::AnotherDevice`] and [`Refusal::OnRemovableDisk`], or the
/// schedules cannot be read.
pub fn refuse_unattended(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
    source: Option<&BootEnvironment>,
) -> Result<()> {
    let Some(descriptor) = &environment.descriptor else { return Ok(()) };
    if environment.trial == Some(Trial::Pending) {
        return Err(Refusal::TrialPending { name: descriptor.name.to_string() }.into());
    }
    let schedules = Schedule::all(&RootDir::open(&host.root)?)?;
    let scheduled = schedules.into_iter().find(|schedule| schedule.id == descriptor.id);
    // The one that runs is where it is.
    let source = source.filter(|source| !source.running);
    let found = Found {
        root: Location::of(inventory, environment),
        others: Location::of_others(inventory, environment),
        source: source.map(|source| (&*source.reference, Location::of(inventory, source))),
    };
    Ok(found.refuse_other(environment, scheduled.as_ref())?)
}

/// Where everything is that an operation would read or write.
struct Found<'a> {
    root: Location,
    others: Vec<Location>,
    /// What to call the source, and where its root is.
    source: Option<(&'a str, Location)>,
}

impl Found<'_> {
    fn refuse_other(
        &self,
        environment: &BootEnvironment,
        scheduled: Option<&Schedule>,
    ) -> Result<(), Refusal> {
        let name = &*environment.reference;
        let pinned_root: Vec<&Location> =
            scheduled.and_then(|s| s.root.as_ref()).into_iter().collect();
        refuse_elsewhere(name, &self.root, &pinned_root, scheduled.is_some())?;
        let pinned: Vec<&Location> =
            scheduled.map(|s| s.others.iter().collect()).unwrap_or_default();
        for other in &self.others {
            refuse_elsewhere(name, other, &pinned, scheduled.is_some())?;
        }
        let Some((source, location)) = &self.source else { return Ok(()) };
        let pinned: Vec<&Location> =
            scheduled.and_then(|s| s.source.as_ref()).into_iter().collect();
        refuse_elsewhere(source, location, &pinned, scheduled.is_some())
    }
}

/// Refuses a place that is not among those that were noted. Where nothing was scheduled, any place
/// will do that is not removable.
fn refuse_elsewhere(
    name: &str,
    found: &Location,
    pinned: &[&Location],
    is_scheduled: bool,
) -> Result<(), Refusal> {
    let same = pinned.iter().find(|pinned| pinned.is_place_of(found));
    if found.removable && !same.is_some_and(|same| same.removable) {
        let way_out = "`be schedule` it again to accept that".into();
        return Err(Refusal::OnRemovableDisk {
            name: name.into(),
            device: found.to_string(),
            way_out,
        });
    }
    if same.is_some() || !is_scheduled {
        return Ok(());
    }
    let noted = match pinned {
        [] => "a device that was not noted".to_owned(),
        pinned => {
            let texts: Vec<String> = pinned.iter().map(ToString::to_string).collect();
            texts.join(", or ")
        }
    };
    Err(Refusal::AnotherDevice { name: name.into(), pinned: noted, found: found.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::environment;
    use crate::storage::device::{BlockDevice, Devices};
    use crate::storage::probe::{Kind, SuperBlock};

    fn scheduled(root: Option<Location>) -> Schedule {
        Schedule { root, ..Schedule::example("second") }
    }

    fn at(uuid: &str) -> Location {
        Location { uuid: uuid.into(), serial: "SER1AL".into(), ..Location::default() }
    }

    fn alone(root: &Location) -> Found<'static> {
        Found { root: root.clone(), others: Vec::new(), source: None }
    }

    #[test]
    fn what_is_scheduled_runs_only_on_the_device_for_which_it_was_scheduled() {
        let second = environment("second", "aaaa-02").complete();
        let pinned = Location { part_uuid: "bbbb-02".into(), ..at("aaaa-02") };
        let schedule = scheduled(Some(pinned.clone()));
        let refused = |found: &Location| alone(found).refuse_other(&second, Some(&schedule)).err();
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
        let unknown = alone(&pinned).refuse_other(&second, Some(&scheduled(None))).unwrap_err();
        assert!(unknown.to_string().contains("was not noted"), "{unknown}");
    }

    #[test]
    fn what_is_on_a_removable_disk_is_left_alone_unless_it_was_scheduled_there() {
        let second = environment("second", "aaaa-02").complete();
        let fixed = at("aaaa-02");
        let removable = Location { removable: true, ..fixed.clone() };
        let code = |found: &Location, pinned: Option<&Location>| {
            let schedule = pinned.map(|pinned| scheduled(Some(pinned.clone())));
            let refused = alone(found).refuse_other(&second, schedule.as_ref());
            refused.map_or_else(|refusal| refusal.code(), |()| "")
        };
        assert_eq!(code(&removable, None), "on-removable-disk");
        assert_eq!(code(&removable, Some(&fixed)), "on-removable-disk");
        assert_eq!(code(&removable, Some(&removable)), "");
        // How the disk is attached may change.
        assert_eq!(code(&fixed, Some(&removable)), "");
        assert_eq!(code(&fixed, None), "");
    }

    #[test]
    fn a_file_system_on_another_disk_is_refused_at_night() {
        let second = environment("second", "aaaa-02").complete();
        let (root, var, first) = (at("aaaa-02"), at("cccc-02"), at("aaaa-01"));
        let schedule = Schedule {
            others: vec![var.clone()],
            source: Some(first.clone()),
            ..scheduled(Some(root.clone()))
        };
        let code = |others: &[&Location], source: Option<&Location>| {
            let found = Found {
                root: root.clone(),
                others: others.iter().map(|other| (*other).clone()).collect(),
                source: source.map(|source| ("first", source.clone())),
            };
            let refused = found.refuse_other(&second, Some(&schedule));
            refused.map_or_else(|refusal| refusal.code(), |()| "")
        };
        assert_eq!(code(&[&var], Some(&first)), "");
        assert_eq!(code(&[], None), "");
        let moved = |pinned: &Location| Location { serial: "0THER".into(), ..pinned.clone() };
        assert_eq!(code(&[&moved(&var)], None), "another-device");
        assert_eq!(code(&[&var], Some(&moved(&first))), "another-device");
        let stick = Location { removable: true, ..var.clone() };
        assert_eq!(code(&[&stick], None), "on-removable-disk");
    }

    #[test]
    fn a_boot_environment_on_trial_is_not_changed_at_night() {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::below(directory.path());
        let mut second = environment("second", "aaaa-02").complete();
        let inventory = Inventory::default();
        refuse_unattended(&host, &inventory, &second, None).unwrap();
        second.trial = Some(Trial::Pending);
        let refused = refuse_unattended(&host, &inventory, &second, None).unwrap_err();
        assert!(refused.to_string().contains("trial of 'second' is pending"), "{refused}");
    }

    #[test]
    fn a_removable_disk_is_known_by_its_device() {
        let second = environment("second", "aaaa-02").complete();
        let mut device = BlockDevice::example("second", SuperBlock::new(Kind::Ext4));
        (device.removable, device.serial) = (true, "ST1CK".into());
        let devices: Devices = [device].into_iter().collect();
        let inventory =
            Inventory { environments: vec![second.clone()], devices, ..Inventory::default() };
        let found = Location::of(&inventory, &second);
        assert!(found.removable && found.serial == "ST1CK", "{found:?}");
    }
}
