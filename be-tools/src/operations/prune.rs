//! `be prune`: of the BEs that a pattern names, all but the newest are deleted.

use std::cmp::Reverse;

use super::delete::{self, Chosen};
use crate::environment::{BootEnvironment, Inventory, State};
use crate::error::Result;
use crate::host::Host;
use crate::plan::Report;
use crate::tree::glob::Glob;

/// Which BEs are deleted.
#[derive(Clone, Debug)]
pub struct PruneRequest {
    /// A shell pattern for names, as in glob(7).
    pub pattern: String,
    /// How many complete ones stay, the newest.
    pub keep: usize,
}

/// Deletes them behind one plan, and returns their names. `None` if the report stopped after the plan.
///
/// # Errors
/// As [`delete::delete`].
pub fn prune(
    host: &Host,
    request: &PruneRequest,
    report: &mut dyn Report,
) -> Result<Option<Vec<String>>> {
    delete::delete_chosen(host, false, report, |inventory| Ok(choose(inventory, request)))
}

/// What is deleted. One that was never complete counts as none, so that a failed night does not cost
/// the last good copy.
fn choose(inventory: &Inventory, request: &PruneRequest) -> Chosen {
    let pattern = Glob::new(request.pattern.as_bytes());
    let created = |environment: &&BootEnvironment| {
        environment.descriptor.as_ref().map(|descriptor| descriptor.created.clone())
    };
    let is_meant = |e: &&BootEnvironment| {
        e.is_managed() && pattern.matches(format!("/{}", e.name()).as_bytes())
    };
    let mut meant: Vec<_> = inventory.environments.iter().filter(is_meant).collect();
    meant.sort_by_key(|environment| Reverse(created(environment)));
    let mut chosen = Chosen { roots: Vec::new(), notes: Vec::new() };
    let mut complete = 0;
    for environment in meant {
        let is_new = complete < request.keep;
        let state = environment.descriptor.as_ref().map(|descriptor| descriptor.state);
        complete += usize::from(state == Some(State::Complete));
        if is_new {
            continue;
        }
        match needed(inventory, environment) {
            None => chosen.roots.push(environment.root.clone()),
            Some(why) => {
                chosen.notes.push(format!("'{}' is not deleted: {why}", environment.name()));
            }
        }
    }
    chosen
}

/// Why one stays although it is old.
fn needed(inventory: &Inventory, environment: &BootEnvironment) -> Option<&'static str> {
    match () {
        () if environment.running => Some("it is running"),
        () if environment.next_boot => Some("it boots next"),
        () if environment.trial.is_some() => Some("its trial is not over"),
        () if !environment.mounted_at.is_empty() => Some("it is mounted"),
        () if environment.root.subvolume.is_some() => Some("it is a subvolume"),
        () if environment.is_on_portable_disk(&inventory.devices) => {
            Some("it is on a disk that may come from another machine")
        }
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Trial;
    use crate::loader::testing::environment;

    #[test]
    fn the_newest_stay_and_so_does_what_is_needed() {
        let be = |name: &str, day: u32, change: fn(&mut BootEnvironment)| {
            let mut found = environment(name, name).complete();
            found.descriptor.as_mut().unwrap().created = format!("2026-11-{day:02}T02:00:00Z");
            change(&mut found);
            found
        };
        let incomplete: fn(&mut BootEnvironment) =
            |e| e.descriptor.as_mut().unwrap().state = State::Incomplete;
        let inventory = Inventory {
            environments: vec![
                be("nightly-01", 1, |_| {}),
                be("nightly-02", 2, |e| e.running = true),
                be("nightly-03", 3, incomplete),
                be("nightly-04", 4, |e| e.trial = Some(Trial::Failed)),
                be("nightly-05", 5, |_| {}),
                be("nightly-06", 6, incomplete),
                be("nightly-07", 7, |_| {}),
                be("second", 1, |_| {}),
                environment("nightly-00", "unmanaged"),
            ],
            ..Inventory::default()
        };
        let chosen = |pattern: &str, keep| {
            choose(&inventory, &PruneRequest { pattern: pattern.into(), keep })
        };
        let names = |chosen: &Chosen| -> Vec<String> {
            chosen.roots.iter().map(|root| root.uuid.clone()).collect()
        };
        let two = chosen("nightly-*", 2);
        assert_eq!(names(&two), ["nightly-03", "nightly-01"]);
        assert_eq!(two.notes.len(), 2, "{:?}", two.notes);
        assert_eq!(names(&chosen("nightly-*", 9)), Vec::<String>::new());
        assert_eq!(names(&chosen("second", 0)), ["second"]);
        assert_eq!(names(&chosen("nightly", 0)), Vec::<String>::new());
    }
}
