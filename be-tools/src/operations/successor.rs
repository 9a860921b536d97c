//! `be create --upgrade --activate`: a copy that is to take over. It is made, upgraded and activated
//! behind one plan and one question.
//!
//! Each part is the operation of its own verb, with its own checks and its own lock, so that what
//! fails is gone on with by that verb. What the packages will be is asked of the source before there
//! is a copy; the upgrade asks again, and does nothing else than what was shown.

use super::activate::{self, Activation, SwitchOptions};
use super::create::{self, CreateRequest};
use super::upgrade::{self, UpgradeRequest, Upgraded};
use crate::distribution::package_manager::{Change, ConfigurationPolicy};
use crate::environment::Descriptor;
use crate::error::{Error, Refusal, Result};
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
    /// Why not all of that was done: [`Error::NotFollowed`].
    pub not_followed: Option<Error>,
}

/// Makes a new BE, upgrades and activates it. `None` if the report stopped after the plan.
///
/// # Errors
/// Those of [`create::create`]. What goes wrong later is in the result, and what was done before stays:
/// a BE that is complete, or that [`upgrade::upgrade`] goes on with.
pub fn create(
    host: &Host,
    request: &CreateRequest,
    then: &Successor,
    report: &mut dyn Report,
) -> Result<Option<Succeeded>> {
    let mut shown = Shown::new(report);
    if let Some(upgrade) = &then.upgrade {
        let source = request.from.as_deref();
        shown.upgrade =
            Some(upgrade::preview(host, source, upgrade, request.boot_entry, shown.report)?);
    }
    if then.activate {
        shown.activation = activate::preview(host, &request.name, request.from.as_deref())?;
        if shown.upgrade.is_some() {
            let again =
                "if its packages change what loads it, that is written again before the switch";
            shown.activation.notes.push(again.into());
        }
    }
    let Some(descriptor) = create::create(host, request, &mut shown)? else { return Ok(None) };
    let mut done = Succeeded { descriptor, upgraded: None, activated: None, not_followed: None };
    done.not_followed = follow(host, then, &mut shown, &mut done).err();
    Ok(Some(done))
}

/// Upgrades and activates a new BE.
fn follow(
    host: &Host,
    then: &Successor,
    shown: &mut Shown<'_>,
    done: &mut Succeeded,
) -> Result<()> {
    // Whatever is called so by now: this one is meant.
    let (name, id) = (done.descriptor.name.clone(), done.descriptor.id.to_string());
    let not_followed = |command: String| {
        let name = name.to_string();
        move |why: Error| Error::NotFollowed { name, why: Box::new(why), command }
    };
    if let Some(upgrade) = &then.upgrade {
        shown.part = Part::Upgrade;
        // It is a copy of what was asked a moment ago, whatever disk it is on.
        let request = UpgradeRequest { reference: id.clone(), force: true, ..upgrade.clone() };
        let command = format!("be upgrade {name} {}", options_of(upgrade));
        done.upgraded = upgrade::upgrade(host, &request, shown).map_err(not_followed(command))?;
    }
    if then.activate {
        let not_followed = not_followed(format!("be activate {name}"));
        if let Some(why) = done.upgraded.as_ref().and_then(not_to_be_tried) {
            return Err(not_followed(why));
        }
        shown.part = Part::Activate;
        shown.loader_again = Some(activate::loader_again(host, &done.descriptor)?);
        let activated =
            activate::activate(host, &id, Activation::Trial, SwitchOptions::default(), shown);
        done.activated = activated.map_err(not_followed)?.map(|(_, activation)| activation);
    }
    Ok(())
}

/// The options of `be upgrade` that ask for the same. A successor has no other changes than these.
fn options_of(request: &UpgradeRequest) -> String {
    let change = match &request.change {
        Change::Release(release) => format!("--release {release}"),
        _ => "--dist".into(),
    };
    match request.configuration {
        ConfigurationPolicy::Keep => change,
        ConfigurationPolicy::Replace => change + " --conffiles new",
    }
}

/// Why a copy is not tried whose upgrade removed what the plan did not name, or in which a package's
/// script failed.
fn not_to_be_tried(upgraded: &Upgraded) -> Option<Error> {
    if let Some(failed) = upgraded.transcript.failed.first() {
        return Some(Error::Failed(format!(
            "in its upgrade a script failed ({failed}): look at it"
        )));
    }
    let names = upgraded.removed_unplanned().join(", ");
    (!names.is_empty()).then(|| {
        Error::Failed(format!("its upgrade removed {names}, which was not in the plan: look at it"))
    })
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
    activation: activate::Preview,
    /// The step that an activation may have although it was not shown.
    loader_again: Option<String>,
    /// The number of steps of the parts that are done.
    steps: usize,
    part: Part,
}

impl<'a> Shown<'a> {
    fn new(report: &'a mut dyn Report) -> Self {
        Shown {
            report,
            upgrade: None,
            activation: activate::Preview::default(),
            loader_again: None,
            steps: 0,
            part: Part::Create,
        }
    }

    fn whole(&self, plan: &Plan) -> Plan {
        let mut whole = plan.clone();
        if let Some(upgrade) = &self.upgrade {
            whole.title.push_str(", and change its packages");
            whole.steps.extend(upgrade.steps.iter().cloned());
            whole.notes.extend(upgrade.notes.iter().cloned());
            whole.packages = Some(upgrade.changes.clone());
        }
        if !self.activation.steps.is_empty() {
            whole.title.push_str(", and try it at the next boot");
            whole.steps.extend(self.activation.steps.iter().cloned());
            whole.notes.extend(self.activation.notes.iter().cloned());
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

impl Shown<'_> {
    /// Refuses a switch that does what was not shown.
    fn refuse_other_steps(&self, steps: &[String]) -> Result<()> {
        let was_shown = |step: &String| {
            self.activation.steps.contains(step) || self.loader_again.as_ref() == Some(step)
        };
        match steps.iter().find(|step| !was_shown(step)) {
            None => Ok(()),
            Some(step) => Err(Error::Failed(format!("to switch to it would now also {step}"))),
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
            Part::Activate => self.refuse_other_steps(&plan.steps)?,
        }
        log::info!("{}", plan.title);
        // Those that were not known when the plan was shown.
        let known =
            self.upgrade.iter().flat_map(|upgrade| &upgrade.notes).chain(&self.activation.notes);
        let known: Vec<String> = known.cloned().collect();
        plan.notes
            .iter()
            .filter(|note| !known.contains(note))
            .for_each(|note| self.report.warn(note));
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
        let mut shown = Shown::new(&mut recorder);
        shown.upgrade = Some(upgrade::Preview {
            steps: lines(&["mark it as incomplete", "install"]),
            notes: Vec::new(),
            changes: changes("2"),
        });
        shown.activation =
            activate::Preview { steps: lines(&["set BootNext"]), notes: lines(&["no watchdog"]) };
        let plan = Plan { steps: lines(&["make ext4", "copy"]), ..Plan::default() };
        let whole = shown.whole(&plan);
        let all = ["make ext4", "copy", "mark it as incomplete", "install", "set BootNext"];
        assert_eq!(whole.steps, all);
        assert_eq!(whole.notes, ["no watchdog"], "the one plan has the notes of the switch");
        assert_eq!(whole.packages.as_ref(), Some(&changes("2")));
        shown.confirm(&plan).unwrap();
        let of = |to: &str| Plan { packages: Some(changes(to)), ..Plan::default() };
        shown.part = Part::Upgrade;
        assert!(shown.confirm(&of("2")).unwrap());
        let refused = shown.confirm(&of("3")).unwrap_err();
        assert!(refused.to_string().contains("be upgrade"), "{refused}");
    }

    #[test]
    fn a_switch_does_nothing_that_was_not_shown() {
        let mut recorder = Recorder::default();
        let mut shown = Shown::new(&mut recorder);
        shown.part = Part::Activate;
        shown.activation.steps = vec!["set BootNext".into()];
        shown.activation.notes = vec!["known".into()];
        shown.loader_again = Some("write the loader again".into());
        let mut of = |steps: &[&str]| {
            let steps = steps.iter().map(|step| (*step).to_owned()).collect();
            shown.confirm(&Plan {
                steps,
                notes: vec!["known".into(), "new".into()],
                ..Plan::default()
            })
        };
        assert!(of(&["write the loader again", "set BootNext"]).unwrap());
        let refused = of(&["set BootNext", "call off the trial of 'third'"]).unwrap_err();
        assert!(refused.to_string().contains("call off the trial of 'third'"), "{refused}");
        assert_eq!(recorder.warnings, ["new"]);
    }

    #[test]
    fn what_was_removed_unplanned_or_failed_is_not_activated() {
        let mut upgraded = Upgraded {
            name: "second".into(),
            reference: "second".into(),
            changes: changes("2"),
            transcript: upgrade::Transcript::default(),
        };
        assert!(not_to_be_tried(&upgraded).is_none());
        upgraded.transcript.removed.insert("ssh".into());
        assert!(not_to_be_tried(&upgraded).unwrap().to_string().contains("removed ssh"));
        upgraded.transcript.removed.clear();
        upgraded.transcript.failed.push("Make the initramfs: error".into());
        assert!(not_to_be_tried(&upgraded).unwrap().to_string().contains("Make the initramfs"));
    }

    #[test]
    fn after_the_copy_nothing_is_a_refusal() {
        let of = |why| {
            let why = Box::new(why);
            Error::NotFollowed { name: "x".into(), why, command: "be upgrade x --dist".into() }
        };
        assert_eq!(of(Error::Refused(Refusal::OtherPackages)).exit_status(), 1);
        assert_eq!(of(Error::Interrupted).exit_status(), 130);
    }
}
