//! The tests that every implementation of [`Loader`](super::Loader) must pass, on a simulated
//! machine.

use super::contract::{BootState, Loader, LoaderStep, run};
use super::problem::LoaderProblem;
use crate::environment::{State, Trial};
use crate::error::{Error, Refusal};

/// What a machine starts when it is switched on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Started {
    /// A BE, by its name.
    Environment(String),
    /// The system that was there before Lifeboat.
    Foreign,
    /// The rescue image.
    Rescue,
    /// Nothing is left to start.
    Nothing,
}

/// A machine with a loader under test. At first the foreign system is running and is the default.
/// There is a rescue image.
pub(crate) trait Machine {
    /// Adds a complete BE that has no loader yet.
    fn add(&mut self, name: &str);
    /// The loader of a BE.
    fn loader(&self, name: &str) -> Box<dyn Loader + '_>;
    /// Installs the loader of a BE.
    fn install(&self, name: &str);
    /// Sets the state in the BE's descriptor.
    fn set_state(&mut self, name: &str, state: State);
    /// Switches the machine on. What it starts is running from then on.
    fn start(&mut self) -> Started;
    /// Starts the BE without its boot entry.
    fn kexec(&mut self, name: &str);
    /// Removes the foreign system.
    fn lose_foreign(&mut self);
    /// Damages the files of the BE's loader.
    fn damage(&mut self, name: &str);
    /// The text for the BE in the menu; `None` if it has no entry.
    fn shown(&self, name: &str) -> Option<String>;
    /// The BE's loader has files.
    fn has_files(&self, name: &str) -> bool;
}

/// Makes a machine.
pub(crate) type MakeMachine = fn() -> Box<dyn Machine>;

/// Defines a test for each promise, with the machines that an expression makes.
macro_rules! keep_every_promise {
    ($new:expr) => {
        $crate::loader::promises::keep_every_promise! { $new;
            a_new_be_is_started_only_once_it_is_listed
            a_new_be_comes_after_all_others
            installing_again_keeps_place_and_listing
            a_be_that_is_not_listed_is_not_started
            a_be_that_is_not_listed_is_not_tried
            a_trial_is_started_once
            a_failed_trial_ends_in_what_was_running
            a_failed_trial_of_the_first_in_order_ends_in_another
            a_confirmed_trial_stays
            a_trial_is_not_confirmed_by_another_be
            a_be_that_was_started_without_its_entry_is_not_on_trial
            an_incomplete_be_is_not_confirmed
            a_permanent_switch_calls_off_the_trial_of_another
            three_starts_without_a_confirm_end_in_the_rescue_image
            a_rename_keeps_the_entry_and_its_place
            a_removal_removes_the_entry_before_the_files
            what_is_left_alone_is_not_what_starts_first
            something_else_must_remain
            every_cut_of_a_trial_leaves_a_machine_that_boots
            every_cut_of_a_permanent_switch_leaves_a_machine_that_boots
            every_cut_of_a_confirmation_leaves_a_machine_that_boots
            faults_of_its_files_go_when_it_is_installed_again
        }
    };
    ($new:expr; $($promise:ident)*) => {
        $(
            #[test]
            fn $promise() {
                $crate::loader::promises::$promise($new);
            }
        )*
    };
}
pub(crate) use keep_every_promise;

fn be(name: &str) -> Started {
    Started::Environment(name.into())
}

/// A machine on which these BEs are installed and listed, in this order.
fn with(new: MakeMachine, names: &[&str]) -> Box<dyn Machine> {
    let mut machine = new();
    for name in names {
        machine.add(name);
        machine.install(name);
        machine.loader(name).set_listed(true).unwrap();
    }
    machine
}

fn try_once(machine: &dyn Machine, name: &str) {
    run(&machine.loader(name).try_once().unwrap()).unwrap();
}

fn make_default(machine: &dyn Machine, name: &str) {
    run(&machine.loader(name).make_default().unwrap()).unwrap();
}

fn confirm(machine: &dyn Machine, name: &str) {
    run(&machine.loader(name).confirm().unwrap()).unwrap();
}

fn state(machine: &dyn Machine, name: &str) -> BootState {
    machine.loader(name).state().unwrap()
}

/// Restarts the machine until it starts something that is not broken. Returns everything it
/// started.
fn reboot(machine: &mut dyn Machine, broken: &[&str]) -> Vec<Started> {
    let mut all = Vec::new();
    loop {
        let started = machine.start();
        all.push(started.clone());
        match started {
            Started::Environment(name) if broken.contains(&name.as_str()) => {}
            _ => return all,
        }
        assert!(all.len() < 10, "the machine restarts for ever: {all:?}");
    }
}

/// For each number of steps: makes a machine, runs so many of the `steps` on it, then checks it
/// with `holds`.
fn cut(
    make: impl Fn() -> Box<dyn Machine>,
    steps: for<'l> fn(&'l dyn Loader) -> Vec<LoaderStep<'l>>,
    name: &str,
    holds: impl Fn(&mut dyn Machine, bool),
) {
    for count in 0.. {
        let mut machine = make();
        let all = {
            let loader = machine.loader(name);
            let steps = steps(&*loader);
            assert!(steps.iter().all(|step| !step.to_string().is_empty()));
            let all = steps.len();
            run(&steps[..count.min(all)]).unwrap();
            all
        };
        holds(&mut *machine, count >= all);
        if count >= all {
            return;
        }
    }
}

pub(crate) fn a_new_be_is_started_only_once_it_is_listed(new: MakeMachine) {
    let mut machine = new();
    machine.add("second");
    assert_eq!(state(&*machine, "second"), BootState::default());
    machine.install("second");
    machine.lose_foreign();
    assert!(!state(&*machine, "second").next);
    assert_eq!(machine.start(), Started::Nothing);
    machine.loader("second").set_listed(true).unwrap();
    assert!(state(&*machine, "second").next);
    assert!(machine.loader("second").is_default().unwrap());
    assert_eq!(machine.start(), be("second"));
}

pub(crate) fn a_new_be_comes_after_all_others(new: MakeMachine) {
    let mut machine = with(new, &["second", "third"]);
    assert_eq!(machine.start(), Started::Foreign);
    machine.lose_foreign();
    assert_eq!(machine.start(), be("second"));
}

pub(crate) fn installing_again_keeps_place_and_listing(new: MakeMachine) {
    let mut machine = with(new, &["second", "third"]);
    let entry = state(&*machine, "second").entry;
    machine.loader("third").set_listed(false).unwrap();
    for name in ["second", "third"] {
        machine.install(name);
        assert_eq!(state(&*machine, name).problems, []);
    }
    assert_eq!(state(&*machine, "second").entry, entry);
    machine.lose_foreign();
    assert_eq!(machine.start(), be("second"));
    machine.loader("second").set_listed(false).unwrap();
    assert_eq!(machine.start(), Started::Nothing);
}

pub(crate) fn a_be_that_is_not_listed_is_not_started(new: MakeMachine) {
    let mut machine = with(new, &["second"]);
    make_default(&*machine, "second");
    machine.loader("second").set_listed(false).unwrap();
    assert!(!machine.loader("second").is_default().unwrap());
    assert_eq!(machine.start(), Started::Foreign);
    machine.loader("second").set_listed(true).unwrap();
    assert_eq!(machine.start(), be("second"));
}

pub(crate) fn a_be_that_is_not_listed_is_not_tried(new: MakeMachine) {
    let mut machine = with(new, &["second"]);
    try_once(&*machine, "second");
    machine.loader("second").set_listed(false).unwrap();
    let state = state(&*machine, "second");
    assert_eq!((state.next, state.trial), (false, None));
    assert_eq!(machine.start(), Started::Foreign);
}

pub(crate) fn a_trial_is_started_once(new: MakeMachine) {
    let mut machine = with(new, &["second"]);
    try_once(&*machine, "second");
    let pending = state(&*machine, "second");
    assert_eq!((pending.next, pending.trial), (true, Some(Trial::Pending)));
    assert!(!machine.loader("second").is_default().unwrap());
    assert_eq!(machine.start(), be("second"));
    assert_eq!(state(&*machine, "second").trial, Some(Trial::Running));
    assert_eq!(machine.loader("second").running_trial().unwrap(), Some(Trial::Running));
    // It came up, and was not confirmed.
    assert_eq!(machine.start(), Started::Foreign);
    assert_eq!(state(&*machine, "second").trial, Some(Trial::Failed));
}

pub(crate) fn a_failed_trial_ends_in_what_was_running(new: MakeMachine) {
    let mut machine = with(new, &["first", "second"]);
    make_default(&*machine, "first");
    assert_eq!(machine.start(), be("first"));
    try_once(&*machine, "second");
    assert_eq!(reboot(&mut *machine, &["second"]), [be("second"), be("first")]);
    assert_eq!(state(&*machine, "second").trial, Some(Trial::Failed));
    assert!(state(&*machine, "first").next);
}

pub(crate) fn a_failed_trial_of_the_first_in_order_ends_in_another(new: MakeMachine) {
    let mut machine = with(new, &["first", "second"]);
    make_default(&*machine, "first");
    machine.start();
    make_default(&*machine, "second");
    try_once(&*machine, "second");
    assert_eq!(reboot(&mut *machine, &["second"]), [be("second"), be("first")]);
}

pub(crate) fn a_confirmed_trial_stays(new: MakeMachine) {
    let mut machine = with(new, &["second"]);
    try_once(&*machine, "second");
    machine.start();
    confirm(&*machine, "second");
    assert!(machine.loader("second").is_default().unwrap());
    assert_eq!(state(&*machine, "second").trial, None);
    assert_eq!(machine.start(), be("second"));
    assert_eq!(machine.loader("second").running_trial().unwrap(), None);
}

pub(crate) fn a_trial_is_not_confirmed_by_another_be(new: MakeMachine) {
    let mut machine = with(new, &["first", "second"]);
    make_default(&*machine, "first");
    machine.start();
    try_once(&*machine, "second");
    reboot(&mut *machine, &["second"]);
    assert_eq!(machine.loader("first").running_trial().unwrap(), None);
    confirm(&*machine, "first");
    assert_eq!(state(&*machine, "second").trial, Some(Trial::Failed));
    assert!(!machine.loader("second").is_default().unwrap());
    assert_eq!(machine.start(), be("first"));
}

pub(crate) fn a_be_that_was_started_without_its_entry_is_not_on_trial(new: MakeMachine) {
    let mut machine = with(new, &["second"]);
    try_once(&*machine, "second");
    assert_eq!(reboot(&mut *machine, &["second"]), [be("second"), Started::Foreign]);
    machine.kexec("second");
    assert_eq!(machine.loader("second").running_trial().unwrap(), None);
    confirm(&*machine, "second");
    assert!(!machine.loader("second").is_default().unwrap());
    assert_eq!(machine.start(), Started::Foreign);
}

pub(crate) fn an_incomplete_be_is_not_confirmed(new: MakeMachine) {
    let mut machine = with(new, &["second"]);
    try_once(&*machine, "second");
    machine.start();
    machine.set_state("second", State::Incomplete);
    assert!(machine.loader("second").confirm().is_err());
    assert_eq!(machine.start(), Started::Foreign);
}

pub(crate) fn a_permanent_switch_calls_off_the_trial_of_another(new: MakeMachine) {
    let mut machine = with(new, &["second", "third"]);
    try_once(&*machine, "third");
    make_default(&*machine, "second");
    assert_eq!(state(&*machine, "third").trial, Some(Trial::Interrupted));
    machine.loader("third").call_off().unwrap();
    assert_eq!(state(&*machine, "third").trial, None);
    assert_eq!(machine.start(), be("second"));
}

pub(crate) fn three_starts_without_a_confirm_end_in_the_rescue_image(new: MakeMachine) {
    let mut machine = with(new, &["second"]);
    make_default(&*machine, "second");
    machine.start();
    confirm(&*machine, "second");
    let [a, b, c] = [be("second"), be("second"), be("second")];
    assert_eq!(reboot(&mut *machine, &["second"]), [a, b, c, Started::Rescue]);
    // Activating it resets the count.
    make_default(&*machine, "second");
    assert_eq!(machine.start(), be("second"));
}

pub(crate) fn a_rename_keeps_the_entry_and_its_place(new: MakeMachine) {
    let mut machine = with(new, &["second", "third"]);
    make_default(&*machine, "second");
    let before = state(&*machine, "second");
    machine.loader("second").rename(&"other".parse().unwrap()).unwrap();
    assert!(machine.shown("second").unwrap().contains("other"));
    assert_eq!(state(&*machine, "second"), before);
    assert!(!machine.shown("third").unwrap().contains("other"));
    assert_eq!(machine.start(), be("second"));
    machine.add("fourth");
    machine.loader("fourth").rename(&"fifth".parse().unwrap()).unwrap();
}

pub(crate) fn a_removal_removes_the_entry_before_the_files(new: MakeMachine) {
    let make = || {
        let machine = with(new, &["first", "second"]);
        make_default(&*machine, "second");
        try_once(&*machine, "second");
        machine.loader("second").prove_another_boots(&[]).unwrap();
        machine
    };
    cut(
        make,
        |loader| loader.remove().unwrap(),
        "second",
        |machine, done| {
            let has_entry = machine.shown("second").is_some();
            assert!(
                machine.has_files("second") || !has_entry,
                "an entry starts a file that does not exist"
            );
            assert!(has_entry || !state(machine, "second").next);
            if !done {
                // The removal can be run again.
                run(&machine.loader("second").remove().unwrap()).unwrap();
            }
            assert!(!machine.has_files("second") && machine.shown("second").is_none());
            run(&machine.loader("second").remove().unwrap()).unwrap();
            assert!(machine.has_files("first"));
            assert_eq!(machine.start(), Started::Foreign);
        },
    );
}

pub(crate) fn what_is_left_alone_is_not_what_starts_first(new: MakeMachine) {
    let machine = with(new, &["first", "second"]);
    let refused = |gone: &[u16]| {
        let result = machine.loader("second").refuse_kept_first(gone);
        matches!(result, Err(Error::Refused(Refusal::KeptStartsFirst { .. })))
    };
    make_default(&*machine, "second");
    let own = machine.loader("second").removed_entries().unwrap();
    assert_eq!(own.len(), 1);
    assert!(refused(&[]));
    // What is removed starts nothing.
    assert!(!refused(&own));
    make_default(&*machine, "first");
    assert!(!refused(&[]));
    try_once(&*machine, "second");
    assert!(refused(&[]) && !refused(&own));
}

pub(crate) fn something_else_must_remain(new: MakeMachine) {
    let mut machine = with(new, &["second"]);
    let status = |result: crate::error::Result<()>| result.map_or_else(|e| e.exit_status(), |()| 0);
    assert_eq!(status(machine.loader("second").prove_switch(false).map(drop)), 0);
    assert_eq!(status(machine.loader("second").prove_another_boots(&[])), 0);
    machine.lose_foreign();
    let refused = machine.loader("second").prove_switch(false);
    assert!(matches!(refused, Err(Error::Refused(Refusal::NoFallback { .. }))), "{refused:?}");
    assert_eq!(status(machine.loader("second").prove_switch(true).map(drop)), 0);
    let refused = machine.loader("second").prove_another_boots(&[]);
    assert!(matches!(refused, Err(Error::Refused(Refusal::OnlyBootable { .. }))), "{refused:?}");
}

pub(crate) fn every_cut_of_a_trial_leaves_a_machine_that_boots(new: MakeMachine) {
    let make = || {
        let mut machine = with(new, &["first", "second"]);
        make_default(&*machine, "first");
        machine.start();
        make_default(&*machine, "second");
        machine
    };
    cut(
        make,
        |loader| loader.try_once().unwrap(),
        "second",
        |machine, done| {
            let BootState { next, trial, .. } = state(machine, "second");
            if !machine.loader("second").is_default().unwrap() {
                assert_eq!(
                    next,
                    trial == Some(Trial::Pending),
                    "it would be started, but not as a trial"
                );
            }
            assert_eq!(trial == Some(Trial::Pending), done);
            let started = reboot(machine, &["second"]);
            assert!(
                matches!(started.last(), Some(s) if *s == be("first") || *s == Started::Rescue)
            );
        },
    );
}

pub(crate) fn every_cut_of_a_permanent_switch_leaves_a_machine_that_boots(new: MakeMachine) {
    cut(
        || with(new, &["second"]),
        |loader| loader.make_default().unwrap(),
        "second",
        |machine, done| {
            let expected = if done { be("second") } else { Started::Foreign };
            assert_eq!(machine.start(), expected);
        },
    );
}

pub(crate) fn every_cut_of_a_confirmation_leaves_a_machine_that_boots(new: MakeMachine) {
    let make = || {
        let mut machine = with(new, &["second"]);
        try_once(&*machine, "second");
        machine.start();
        machine
    };
    cut(
        make,
        |loader| loader.confirm().unwrap(),
        "second",
        |machine, done| {
            // It can be confirmed again until its record is cleared.
            let trial = machine.loader("second").running_trial().unwrap();
            assert_eq!(trial.is_none(), done);
            confirm(machine, "second");
            assert_eq!(machine.start(), be("second"));
        },
    );
}

pub(crate) fn faults_of_its_files_go_when_it_is_installed_again(new: MakeMachine) {
    let mut machine = new();
    machine.add("second");
    let problems = |machine: &dyn Machine| machine.loader("second").problems().unwrap();
    assert_eq!(problems(&*machine), [LoaderProblem::NoEntry]);
    machine.install("second");
    assert_eq!(problems(&*machine), []);
    machine.damage("second");
    assert_eq!(problems(&*machine).len(), 1);
    assert_eq!(problems(&*machine), state(&*machine, "second").problems);
    machine.install("second");
    assert_eq!(problems(&*machine), []);
}
