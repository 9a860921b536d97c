//! Whether what has the id of a scheduled BE is the one that was scheduled, and may be changed while
//! nobody watches.

use std::path::Path;

use super::entry::Schedule;
use super::location::Location;
use crate::environment::{BootEnvironment, Id, Inventory, Trial};
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::loader;
use crate::root_dir::RootDir;
use crate::storage::mounts::Mounts;

/// What is copied to a BE while nobody watches.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// The BE that is copied.
    pub source: &'a BootEnvironment,
    /// The mount points of its file systems that are read.
    pub mountpoints: &'a [&'a Path],
}

/// Refuses a BE that an operation was not scheduled for, although it has the id: a file system of
/// it, or one that is copied to it, lies on another device than when it was scheduled, or on a
/// removable disk. A BE that would be tried at the next boot is refused too.
///
/// # Errors
/// [`Refusal::TrialPending`], [`Refusal::AnotherDevice`] and [`Refusal::OnRemovableDisk`], or the
/// schedules cannot be read.
pub fn refuse_unattended(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
    copied: Option<Copied<'_>>,
) -> Result<()> {
    let Some(descriptor) = &environment.descriptor else { return Ok(()) };
    // Where its record cannot be read, BootNext still names it.
    let is_once = || -> Result<bool> {
        let loader = loader::for_environment(host, inventory, environment)?;
        Ok(loader.state()?.next && !loader.is_default()?)
    };
    if environment.trial == Some(Trial::Pending) || is_once()? {
        return Err(Refusal::TrialPending { name: descriptor.name.to_string() }.into());
    }
    let scheduled = Schedule::known(&RootDir::open(&host.root)?, descriptor.id)?;
    let mounts = match copied {
        Some(Copied { source, .. }) if source.running => Mounts::read(host)?,
        _ => Mounts::default(),
    };
    let found = Found {
        root: Location::of(inventory, environment),
        others: Location::of_made(inventory, environment),
        source: copied.map(|Copied { source, mountpoints }| {
            // What the running system has mounted is where it is.
            let is_mounted = |place: &Path| {
                let line = source.file_systems.iter().find(|line| line.mountpoint == place);
                let device = line.and_then(|line| inventory.devices.by_node(line.device.as_ref()?));
                let here = mounts.at(place);
                place == Path::new("/") || here.zip(device).is_some_and(|(m, d)| m.is_of(d))
            };
            let is_asked = |place: &&Path| !source.running || !is_mounted(place);
            let mountpoints = mountpoints.iter().copied().filter(is_asked);
            FoundSource {
                name: &source.reference,
                id: source.descriptor.as_ref().map(|descriptor| descriptor.id),
                places: Location::of_mountpoints(inventory, source, mountpoints),
            }
        }),
    };
    Ok(found.refuse_other(environment, scheduled.as_ref())?)
}

/// Where everything is that an operation would read or write.
struct Found<'a> {
    root: Location,
    others: Vec<Location>,
    source: Option<FoundSource<'a>>,
}

struct FoundSource<'a> {
    /// What to call it on a command line.
    name: &'a str,
    id: Option<Id>,
    places: Vec<Location>,
}

impl Found<'_> {
    fn refuse_other(
        &self,
        environment: &BootEnvironment,
        scheduled: Option<&Schedule>,
    ) -> Result<(), Refusal> {
        let name = &*environment.reference;
        let pinned = scheduled.map(|s| Vec::from_iter(s.root.clone()));
        refuse_elsewhere(name, &self.root, pinned.as_deref())?;
        let pinned = scheduled.and_then(|s| s.others.as_deref());
        for other in &self.others {
            refuse_elsewhere(name, other, pinned)?;
        }
        let Some(FoundSource { name, id, places }) = &self.source else { return Ok(()) };
        // It may have another source since, which a person named.
        let noted = scheduled.and_then(|s| s.source.as_ref()).filter(|noted| Some(noted.id) == *id);
        let pinned = noted.map(|noted| &*noted.places);
        places.iter().try_for_each(|place| refuse_elsewhere(name, place, pinned))
    }
}

/// Refuses a place that is not among those that were noted. Where none were, any place will do that
/// is not removable.
fn refuse_elsewhere(
    name: &str,
    found: &Location,
    pinned: Option<&[Location]>,
) -> Result<(), Refusal> {
    let same = pinned.into_iter().flatten().find(|pinned| pinned.is_place_of(found));
    if found.removable && !same.is_some_and(|same| same.removable) {
        let way_out = "`be schedule` it again to accept that".into();
        return Err(Refusal::OnRemovableDisk {
            name: name.into(),
            device: found.to_string(),
            way_out,
        });
    }
    let Some(pinned) = pinned.filter(|_| same.is_none()) else { return Ok(()) };
    let noted = match pinned {
        [] => "a device that was not noted".to_owned(),
        pinned => pinned.iter().map(ToString::to_string).collect::<Vec<_>>().join(", or "),
    };
    Err(Refusal::AnotherDevice { name: name.into(), pinned: noted, found: found.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::FileSystemUse;
    use crate::error::Error;
    use crate::loader::testing::environment;
    use crate::operations::schedule::Source;
    use crate::storage::device::{BlockDevice, Devices};
    use crate::storage::device_number::DeviceNumber;
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
        let id = Id::random();
        let noted = Source { id, places: vec![first.clone()] };
        let schedule = Schedule {
            others: Some(vec![var.clone()]),
            source: Some(noted),
            ..scheduled(Some(root.clone()))
        };
        let code = |schedule: &Schedule, others: &[&Location], source: Option<(Id, &Location)>| {
            let found = Found {
                root: root.clone(),
                others: others.iter().map(|other| (*other).clone()).collect(),
                source: source.map(|(id, place)| FoundSource {
                    name: "first",
                    id: Some(id),
                    places: vec![place.clone()],
                }),
            };
            let refused = found.refuse_other(&second, Some(schedule));
            refused.map_or_else(|refusal| refusal.code(), |()| "")
        };
        assert_eq!(code(&schedule, &[&var], Some((id, &first))), "");
        assert_eq!(code(&schedule, &[], None), "");
        let moved = |pinned: &Location| Location { serial: "0THER".into(), ..pinned.clone() };
        assert_eq!(code(&schedule, &[&moved(&var)], None), "another-device");
        assert_eq!(code(&schedule, &[&var], Some((id, &moved(&first)))), "another-device");
        let stick = Location { removable: true, ..var.clone() };
        assert_eq!(code(&schedule, &[&stick], None), "on-removable-disk");
        // A person has named another source since.
        let third = Id::random();
        assert_eq!(code(&schedule, &[], Some((third, &at("aaaa-03")))), "");
        assert_eq!(code(&schedule, &[], Some((third, &stick))), "on-removable-disk");
        // An older version noted the root alone.
        let old = scheduled(Some(root.clone()));
        assert_eq!(code(&old, &[&var], Some((id, &first))), "");
        assert_eq!(code(&old, &[&stick], None), "on-removable-disk");
    }

    /// A BE and its source, which has /srv and a backup on a stick; and what was noted of them when
    /// the disk of /srv had the serial number `ONE`.
    struct Night {
        host: Host,
        target: BootEnvironment,
        source: BootEnvironment,
        _directory: tempfile::TempDir,
    }

    impl Night {
        fn new(running: bool) -> Self {
            let directory = tempfile::tempdir().unwrap();
            let host = Host::below(directory.path());
            let target = environment("second", "aaaa-02").complete();
            let mut source = environment("first", "aaaa-01").complete();
            source.running = running;
            for (place, device) in [("/srv", "/dev/srv"), ("/backup", "/dev/backup")] {
                source.file_systems.push(FileSystemUse::example(place, device));
            }
            let id = source.descriptor.as_ref().unwrap().id;
            let noted = Self::inventory("ONE");
            let schedule = Schedule {
                id: target.descriptor.as_ref().unwrap().id,
                source: Some(Source { id, places: Location::of_source(&noted, &source) }),
                ..scheduled(Some(Location::of(&noted, &target)))
            };
            schedule.store(&RootDir::open(&host.root).unwrap()).unwrap();
            Night { host, target, source, _directory: directory }
        }

        /// The machine when the disk of /srv has this serial number.
        fn inventory(srv: &str) -> Inventory {
            let device = |name: &str, minor, serial: &str| {
                let found = SuperBlock { uuid: name.into(), ..SuperBlock::new(Kind::Ext4) };
                let number = DeviceNumber { major: 8, minor };
                let device = BlockDevice::example(name, found);
                BlockDevice { serial: serial.into(), number, ..device }
            };
            let backup = BlockDevice { removable: true, ..device("backup", 3, "ST1CK") };
            let devices: Devices = [device("srv", 2, srv), backup].into_iter().collect();
            Inventory { devices, ..Inventory::default() }
        }

        /// The code of the refusal to copy these.
        fn code(&self, srv: &str, mountpoints: &[&Path]) -> &'static str {
            let copied = Copied { source: &self.source, mountpoints };
            let inventory = Self::inventory(srv);
            match refuse_unattended(&self.host, &inventory, &self.target, Some(copied)) {
                Err(Error::Refused(why)) => why.code(),
                other => other.map(|()| "").unwrap(),
            }
        }
    }

    #[test]
    fn at_night_every_file_system_that_is_read_is_where_it_was_noted() {
        let night = Night::new(false);
        let (root, srv) = (Path::new("/"), Path::new("/srv"));
        assert_eq!(night.code("ONE", &[root, srv]), "");
        assert_eq!(night.code("TW0", &[root, srv]), "another-device");
        // What is shared may be on any disk.
        assert_eq!(night.code("TW0", &[root]), "");
    }

    #[test]
    fn an_unmounted_file_system_of_the_running_source_is_where_it_was_noted() {
        let night = Night::new(true);
        let proc = night.host.proc.join("thread-self");
        std::fs::create_dir_all(&proc).unwrap();
        let code = |mounted: &str| {
            std::fs::write(proc.join("mountinfo"), mounted).unwrap();
            night.code("TW0", &[Path::new("/"), Path::new("/srv")])
        };
        let root = "26 1 8:1 / / rw - ext4 /dev/first rw\n";
        assert_eq!(code(root), "another-device");
        // What is mounted there is what the running system uses.
        assert_eq!(code(&format!("{root}27 26 8:2 / /srv rw - ext4 /dev/srv rw\n")), "");
        // Something else covers the place.
        let covered = format!("{root}27 26 0:40 / /srv rw - autofs systemd-1 rw\n");
        assert_eq!(code(&covered), "another-device");
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
