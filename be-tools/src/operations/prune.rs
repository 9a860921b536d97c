//! `be prune`: of the BEs that a pattern names, all but the newest are deleted.

use std::cmp::Reverse;

use super::delete::{self, Chosen};
use crate::environment::{BootEnvironment, Descriptor, Inventory, State, Trial};
use crate::error::Result;
use crate::host::Host;
use crate::loader::AllEntries;
use crate::plan::Report;
use crate::session::lock::Lock;
use crate::tree::glob::Glob;

/// Which BEs are deleted.
#[derive(Clone, Debug)]
pub struct PruneRequest {
    /// A shell pattern for names, as in glob(7).
    pub pattern: String,
    /// How many complete ones stay, the newest.
    pub keep: usize,
    /// Whether to wait until no other operation is in progress: nobody is there to try again.
    pub wait: bool,
}

/// Deletes them behind one plan, and returns their names. `None` if the report stopped after the plan.
///
/// # Errors
/// As [`delete::delete`]; but what must not be deleted is left alone, with a note.
pub fn prune(
    host: &Host,
    request: &PruneRequest,
    report: &mut dyn Report,
) -> Result<Option<Vec<String>>> {
    let lock = if request.wait { Lock::wait(host, report)? } else { Lock::acquire(host)? };
    delete::delete_chosen(host, &lock, report, |inventory| {
        let started = match AllEntries::of(host, &inventory.devices) {
            Some(entries) => Some(entries.started()?),
            None => None,
        };
        Ok(choose(inventory, started.as_deref(), request))
    })
}

/// What is deleted. Only what this machine could start counts as kept: a failed night, or a copy on a
/// disk that leaves, does not cost the last good one.
///
/// `started` are the boot entries that the firmware starts by itself, where it has any.
fn choose(inventory: &Inventory, started: Option<&[u16]>, request: &PruneRequest) -> Chosen {
    let pattern = Glob::new(request.pattern.as_bytes());
    let created = |environment: &&BootEnvironment| {
        let created = &environment.descriptor.as_ref()?.created;
        humantime::parse_rfc3339(created).ok()
    };
    let is_meant = |e: &&BootEnvironment| {
        e.is_managed() && pattern.matches(format!("/{}", e.name()).as_bytes())
    };
    let mut meant: Vec<_> = inventory.environments.iter().filter(is_meant).collect();
    meant.sort_by_key(|environment| Reverse(created(environment)));
    let mut chosen = Chosen { leaves_refused: true, ..Chosen::default() };
    let mut good = 0;
    for environment in meant {
        let is_another = another_machines(inventory, started.is_some(), environment);
        let is_new = good < request.keep;
        good += usize::from(is_another.is_none() && is_good(started, environment));
        match is_another.or_else(|| needed(environment)) {
            Some(why) if is_another.is_some() || !is_new => {
                chosen.notes.push(format!("'{}' is not deleted: {why}", environment.reference));
            }
            None if !is_new => chosen.roots.push(environment.root.clone()),
            _ => {}
        }
    }
    // The oldest first: if the rest is interrupted, what is left is the newest.
    chosen.roots.reverse();
    chosen
}

/// Whether the machine could start it, as far as is known.
fn is_good(started: Option<&[u16]>, environment: &BootEnvironment) -> bool {
    let is_complete = |d: &Descriptor| d.state == State::Complete && d.lost_count() == 0;
    let is_started = started
        .is_none_or(|started| environment.boot_entry.is_some_and(|entry| started.contains(&entry)));
    environment.descriptor.as_ref().is_some_and(is_complete)
        && environment.problems.is_empty()
        && environment.trial != Some(Trial::Failed)
        && is_started
}

/// Why one may not be this machine's. It is neither deleted nor counted, whatever it is called.
fn another_machines(
    inventory: &Inventory,
    has_entries: bool,
    environment: &BootEnvironment,
) -> Option<&'static str> {
    // One that an interruption left without an entry was made here, of one that is here. A complete one
    // without an entry was made for another machine, or is another one's.
    let source = environment.descriptor.as_ref().and_then(|descriptor| descriptor.source);
    let is_source = |other: &BootEnvironment| {
        let id = other.descriptor.as_ref().map(|descriptor| descriptor.id);
        id.is_some() && id == source && (other.running || other.boot_entry.is_some())
    };
    let is_left = environment.descriptor.as_ref().is_some_and(|d| d.state == State::Incomplete);
    let is_known =
        environment.boot_entry.is_some() || is_left && inventory.environments.iter().any(is_source);
    match () {
        () if environment.running => None,
        () if environment.is_on_portable_disk(&inventory.devices) => {
            Some("it is on a disk that may come from another machine")
        }
        () if has_entries && !is_known => {
            Some("it has no boot entry here, so it may be another machine's")
        }
        () if inventory.twin_of(environment).is_some() => Some("another one has the same id"),
        () => None,
    }
}

/// Why one stays although it is old.
fn needed(environment: &BootEnvironment) -> Option<&'static str> {
    match () {
        () if environment.running => Some("it is running"),
        () if environment.next_boot => Some("it boots next"),
        () if environment.trial == Some(Trial::Failed) => Some("its trial failed"),
        () if environment.trial.is_some() => Some("its trial is not over"),
        () if !environment.mounted_at.is_empty() => Some("it is mounted"),
        () if environment.root.subvolume.is_some() => Some("it is a subvolume"),
        () if !environment.has_made(&environment.root.device) => {
            Some("Lifeboat did not make its file system")
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{MadeDevice, Operation, Problem, Purpose};
    use crate::loader::testing::environment;
    use crate::storage::device::BlockDevice;
    use crate::storage::probe::{Kind, SuperBlock};

    type Change = fn(&mut BootEnvironment);

    fn be(name: &str, day: u32, change: Change) -> BootEnvironment {
        let mut found = environment(name, name).complete();
        found.descriptor.as_mut().unwrap().created = format!("2026-11-{day:02}T02:00:00Z");
        found.boot_entry = Some(u16::try_from(day).unwrap());
        let (device, purpose) = (found.root.device.clone(), Purpose::FileSystem("/".into()));
        found.made.push(MadeDevice { device, purpose });
        change(&mut found);
        found
    }

    fn inventory(environments: Vec<BootEnvironment>) -> Inventory {
        Inventory { environments, ..Inventory::default() }
    }

    fn chosen(inventory: &Inventory, pattern: &str, keep: usize) -> (Vec<String>, Vec<String>) {
        let request = PruneRequest { pattern: pattern.into(), keep, wait: false };
        // 10 is inactive.
        let started: Vec<u16> = (1..10).collect();
        let chosen = choose(inventory, Some(&started), &request);
        (chosen.roots.iter().map(|root| root.uuid.clone()).collect(), chosen.notes)
    }

    #[test]
    fn the_newest_stay_and_so_does_what_is_needed() {
        let incomplete: Change = |e| e.descriptor.as_mut().unwrap().state = State::Incomplete;
        let inventory = inventory(vec![
            be("nightly-01", 1, |_| {}),
            be("nightly-02", 2, |e| e.running = true),
            be("nightly-03", 3, incomplete),
            be("nightly-04", 4, |e| e.trial = Some(Trial::Failed)),
            be("nightly-05", 5, |_| {}),
            be("nightly-06", 6, incomplete),
            be("nightly-07", 7, |_| {}),
            be("second", 1, |_| {}),
            environment("nightly-00", "unmanaged"),
        ]);
        let (two, notes) = chosen(&inventory, "nightly-*", 2);
        assert_eq!(two, ["nightly-01", "nightly-03"]);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert_eq!(chosen(&inventory, "nightly-*", 9).0, Vec::<String>::new());
        assert_eq!(chosen(&inventory, "second", 0).0, ["second"]);
        assert_eq!(chosen(&inventory, "nightly", 0).0, Vec::<String>::new());
    }

    #[test]
    fn what_may_leave_with_its_disk_is_not_counted_as_kept() {
        let stick = BlockDevice {
            transport: "usb".into(),
            ..BlockDevice::example("sdz1", SuperBlock::new(Kind::Ext4))
        };
        let cases: [(&str, Change); 7] = [
            ("on a disk that may come from another", |e| e.root.device = "/dev/sdz1".into()),
            ("no boot entry here", |e| e.boot_entry = None),
            ("", |e| e.problems = vec![Problem::new("kernel", "it has no kernel")]),
            ("", |e| e.descriptor.as_mut().unwrap().lost.push("/etc/passwd".into())),
            ("", |e| e.descriptor.as_mut().unwrap().state = State::Incomplete),
            ("", |e| e.trial = Some(Trial::Failed)),
            ("", |e| e.boot_entry = Some(10)),
        ];
        for (why, change) in cases {
            let environments = vec![
                be("nightly-1", 1, |_| {}),
                be("nightly-2", 2, |_| {}),
                be("nightly-9", 9, change),
            ];
            let inventory = Inventory {
                devices: [stick.clone()].into_iter().collect(),
                ..inventory(environments)
            };
            let (gone, notes) = chosen(&inventory, "nightly-*", 1);
            assert_eq!(gone, ["nightly-1"], "{why}");
            assert_eq!(notes.iter().any(|note| note.contains(why)), !why.is_empty(), "{notes:?}");
        }
        // Of two with one id it is not known which one is meant.
        let mut environments = vec![be("nightly-1", 1, |_| {}), be("nightly-9", 9, |_| {})];
        environments.push(BootEnvironment {
            root: environment("twin", "twin").root,
            ..environments[1].clone()
        });
        let (gone, notes) = chosen(&inventory(environments), "nightly-*", 1);
        assert_eq!((gone.len(), notes.len()), (0, 2), "{gone:?}: {notes:?}");
        // What nobody can date is the oldest.
        let mut environments = vec![be("nightly-1", 1, |_| {}), be("nightly-2", 2, |_| {})];
        environments[0].descriptor.as_mut().unwrap().created = "zzzz".into();
        assert_eq!(chosen(&inventory(environments), "nightly-*", 1).0, ["nightly-1"]);
    }

    #[test]
    fn an_interrupted_prune_is_finished_by_the_next() {
        let first = be("first", 1, |e| e.running = true);
        let source = first.descriptor.as_ref().unwrap().id;
        let left = |operation| {
            let mut left = be("nightly-1", 2, |e| e.boot_entry = None);
            let descriptor = left.descriptor.as_mut().unwrap();
            descriptor.source = Some(source);
            (descriptor.state, descriptor.operation) = (State::Incomplete, Some(operation));
            left
        };
        for operation in [Operation::Delete, Operation::Create] {
            let inventory =
                inventory(vec![first.clone(), left(operation), be("nightly-2", 3, |_| {})]);
            assert_eq!(chosen(&inventory, "nightly-*", 1).0, ["nightly-1"], "{operation}");
        }
        // A complete one was made for another machine.
        let mut other = left(Operation::Create);
        let descriptor = other.descriptor.as_mut().unwrap();
        (descriptor.state, descriptor.operation) = (State::Complete, None);
        let inventory = inventory(vec![first, other, be("nightly-2", 3, |_| {})]);
        assert_eq!(chosen(&inventory, "nightly-*", 1).0, Vec::<String>::new());
    }

    #[test]
    fn what_was_adopted_is_not_pruned() {
        let environments = vec![be("first", 1, |e| e.made.clear()), be("second", 2, |_| {})];
        let (gone, notes) = chosen(&inventory(environments), "*", 0);
        assert_eq!(gone, ["second"]);
        assert!(notes[0].contains("did not make"), "{notes:?}");
    }
}
