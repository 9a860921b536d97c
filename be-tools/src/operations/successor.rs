//! `be create --upgrade --activate`: a copy that is to take over. It is made, upgraded and activated
//! behind one plan and one question.
//!
//! Each part is the operation of its own verb, with its own checks and its own lock, so that what
//! fails is gone on with by that verb. What the packages will be is asked of the source before there
//! is a copy; the upgrade asks again, and does nothing else than what was shown.

use super::activate::{self, Activation};
use super::create::{self, CreateRequest};
use super::upgrade::{self, UpgradeRequest, Upgraded};
use crate::environment::Descriptor;
use crate::error::{Refusal, Result};
use crate::host::Host;
use crate::plan::{PackageChanges, Plan, Progress, Report};

/// What becomes of a new BE once it is complete.
#[derive(Debug, Default)]
pub struct Successor {
    /// The change of its packages; its reference is the name of the new BE.
    pub upgrade: Option<UpgradeRequest>,
    /// Whether it is tried at the next boot.
    pub activate: bool,
}

/// What was done.
#[derive(Debug)]
pub struct Succeeded {
    /// The descriptor that the new BE had when it was complete.
    pub descriptor: Descriptor,
    /// What happened to its packages.
    pub upgraded: Option<Upgraded>,
    /// How it was activated.
    pub activated: Option<Activation>,
}

/// Makes a new BE, upgrades and activates it. `None` if the report stopped after the plan.
///
/// # Errors
/// Those of [`create::create`], [`upgrade::upgrade`] and [`activate::activate`]. What was done before
/// stays: a BE that is complete, or that [`upgrade::upgrade`] goes on with.
pub fn create(
    host: &Host,
    request: &CreateRequest,
    then: &Successor,
    report: &mut dyn Report,
) -> Result<Option<Succeeded>> {
    let mut shown =
        Shown { report, upgrade: None, activation: Vec::new(), steps: 0, part: Part::Create };
    if let Some(upgrade) = &then.upgrade {
        let source = request.from.as_deref();
        shown.upgrade =
            Some(upgrade::preview(host, source, upgrade, request.boot_entry, shown.report)?);
    }
    if then.activate {
        shown.activation = activate::preview(host, &request.name)?;
    }
    let Some(descriptor) = create::create(host, request, &mut shown)? else { return Ok(None) };
    let name = request.name.as_str();
    let upgraded = match &then.upgrade {
        Some(upgrade) => {
            shown.part = Part::Upgrade;
            upgrade::upgrade(host, upgrade, &mut shown)?
        }
        None => None,
    };
    let activated = match then.activate {
        true => {
            shown.part = Part::Activate;
            activate::activate(host, name, Activation::Trial, false, &mut shown)?
        }
        false => None,
    };
    let activated = activated.map(|(_, activation)| activation);
    Ok(Some(Succeeded { descriptor, upgraded, activated }))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Create,
    Upgrade,
    Activate,
}

/// Shows the plan of all parts where the first one asks, and lets the others do what it showed.
struct Shown<'a> {
    report: &'a mut dyn Report,
    upgrade: Option<upgrade::Preview>,
    activation: Vec<String>,
    /// The number of steps of the parts that are done.
    steps: usize,
    part: Part,
}

impl Shown<'_> {
    fn whole(&self, plan: &Plan) -> Plan {
        let mut whole = plan.clone();
        if let Some(upgrade) = &self.upgrade {
            whole.title.push_str(", and change its packages");
            whole.steps.extend(upgrade.steps.iter().cloned());
            whole.notes.extend(upgrade.notes.iter().cloned());
            whole.packages = Some(upgrade.changes.clone());
        }
        if !self.activation.is_empty() {
            whole.title.push_str(", and try it at the next boot");
            whole.steps.extend(self.activation.iter().cloned());
        }
        whole
    }

    /// Refuses other packages than those that were shown.
    fn refuse_other(&self, found: Option<&PackageChanges>) -> Result<()> {
        match (&self.upgrade, found) {
            (Some(shown), Some(found)) if shown.changes.changes != found.changes => {
                Err(Refusal::OtherPackages.into())
            }
            _ => Ok(()),
        }
    }
}

impl Report for Shown<'_> {
    fn confirm(&mut self, plan: &Plan) -> Result<bool> {
        match self.part {
            Part::Create => {
                self.steps = plan.steps.len();
                let whole = self.whole(plan);
                return self.report.confirm(&whole);
            }
            Part::Upgrade => self.refuse_other(plan.packages.as_ref())?,
            Part::Activate => {}
        }
        // The user has seen the notes that were known then.
        log::info!("{}", plan.title);
        plan.notes.iter().for_each(|note| log::info!("{note}"));
        Ok(true)
    }

    fn step(&mut self, number: usize, line: &str) {
        let before = match (self.part, &self.upgrade) {
            (Part::Create, _) => 0,
            (Part::Activate, Some(upgrade)) => self.steps + upgrade.steps.len(),
            _ => self.steps,
        };
        self.report.step(before + number, line);
    }

    fn part(&mut self, what: &str) {
        self.report.part(what);
    }

    fn ended(&mut self) {
        self.report.ended();
    }

    fn progress(&mut self, progress: &Progress) {
        self.report.progress(progress);
    }

    fn warn(&mut self, message: &str) {
        self.report.warn(message);
    }

    fn fall_short(&mut self, message: &str) {
        self.report.fall_short(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::PackageChange;
    use crate::plan::testing::Recorder;

    fn changes(to: &str) -> PackageChanges {
        let change =
            PackageChange { name: "tool".into(), from: Some("1".into()), to: Some(to.into()) };
        PackageChanges { changes: vec![change], ..PackageChanges::default() }
    }

    #[test]
    fn all_parts_are_shown_at_once_and_only_what_was_shown_is_installed() {
        let mut recorder = Recorder::default();
        let lines =
            |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
        let mut shown = Shown {
            report: &mut recorder,
            upgrade: Some(upgrade::Preview {
                steps: lines(&["mark it as incomplete", "install"]),
                notes: Vec::new(),
                changes: changes("2"),
            }),
            activation: lines(&["set BootNext"]),
            steps: 0,
            part: Part::Create,
        };
        let plan = Plan { steps: lines(&["make ext4", "copy"]), ..Plan::default() };
        let whole = shown.whole(&plan);
        let all = ["make ext4", "copy", "mark it as incomplete", "install", "set BootNext"];
        assert_eq!(whole.steps, all);
        assert_eq!(whole.packages.as_ref(), Some(&changes("2")));
        shown.confirm(&plan).unwrap();
        let of = |to: &str| Plan { packages: Some(changes(to)), ..Plan::default() };
        shown.part = Part::Upgrade;
        assert!(shown.confirm(&of("2")).unwrap());
        let refused = shown.confirm(&of("3")).unwrap_err();
        assert!(refused.to_string().contains("be upgrade"), "{refused}");
    }
}
