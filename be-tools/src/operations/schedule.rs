//! `be schedule`: a systemd timer of the running system that brings a BE up to date, or upgrades it.
//!
//! What is scheduled is in `/etc/lifeboat/schedule`, one file for each BE; the units are made from
//! it. A BE that was scheduled and runs by then is left alone: a copy of this system has the same
//! timers.

mod calendar;
mod device_check;
mod entry;
mod location;
mod record;
mod run;
mod units;

use std::fmt::{Display, Formatter};

use crate::discover;
use crate::environment::{BootEnvironment, Id, Inventory};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::own_files::is_started_by_systemd;
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::step;
use crate::tool::Tool;
pub use device_check::{Copied, refuse_unattended};
pub use entry::{Action, Schedule, Source};
pub use location::Location;
pub use record::Record;
pub use run::run;
use units::Units;

/// Where a program is that takes mail (sendmail(8)).
const SENDMAIL: &str = "usr/sbin/sendmail";

/// A BE that is to be brought up to date from time to time.
#[derive(Clone, Debug)]
pub struct ScheduleRequest {
    /// What names the BE.
    pub reference: String,
    /// When: a calendar event (systemd.time(7)).
    pub calendar: String,
    /// What is done.
    pub action: Action,
    /// Whether a refresh may lose what changed in a BE that has run, or that the machine starts by
    /// itself.
    pub force: bool,
    /// Who gets a mail when it fails.
    pub mail: Option<String>,
}

/// A schedule with what is known of it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Scheduled {
    /// What is scheduled.
    #[serde(flatten)]
    pub schedule: Schedule,
    /// When it runs next, as systemd-analyze(1) says it.
    pub next: Option<String>,
    /// How it went.
    #[serde(flatten)]
    pub record: Record,
    /// Whether the BE is on any disk.
    pub found: bool,
}

/// Schedules a BE, instead of what was scheduled for it before.
///
/// # Errors
/// The calendar event is not one, there is no systemd or no sendmail, or the BE is unmanaged.
pub fn schedule(host: &Host, request: &ScheduleRequest, report: &mut dyn Report) -> Result<()> {
    let root = RootDir::open(&host.root)?;
    refuse_without_systemd(host, &root)?;
    let next = calendar::next(&request.calendar)?;
    if request.mail.is_some() && !root.exists(SENDMAIL) {
        return Err(Error::Usage(format!(
            "there is no /{SENDMAIL} to send mail with: install a mail server, or leave --mail out"
        )));
    }
    let inventory = discover::discover(host)?;
    let environment = inventory.find(&request.reference)?;
    let Some(descriptor) = &environment.descriptor else {
        let (name, way_out) = (environment.reference.clone(), "boot it and run `be adopt` there");
        return Err(Refusal::Unmanaged { name, way_out: way_out.into() }.into());
    };
    let found = descriptor.source.and_then(|id| Some((id, inventory.find_by_id(id).ok()?)));
    let source =
        found.map(|(id, found)| Source { id, places: Location::of_source(&inventory, found) });
    let schedule = Schedule {
        id: descriptor.id,
        name: descriptor.name.clone(),
        calendar: request.calendar.clone(),
        action: request.action,
        force: request.force,
        mail: request.mail.clone(),
        root: Some(Location::of(&inventory, environment)),
        others: Some(Location::of_made(&inventory, environment)),
        source,
    };
    let steps = [Step::Write(&schedule), Step::Start(&schedule)];
    let mut plan = Plan {
        title: format!(
            "Schedule '{}': {} at '{}'",
            schedule.name,
            schedule.what(),
            schedule.calendar
        ),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    plan.notes.push(format!("it runs next at {next}"));
    if let Some(root) = &schedule.root {
        plan.notes.push(format!("it runs only where '{}' is now: {root}", schedule.name));
    }
    if environment.running {
        let name = &schedule.name;
        plan.notes.push(format!("'{name}' is running, and is left alone while it runs"));
    }
    if report.confirm(&plan)? {
        step::run_all(&steps, &mut State { host, root: &root }, report)?;
    }
    Ok(())
}

/// Everything that is scheduled on this system, sorted by name.
///
/// # Errors
/// A file of `/etc/lifeboat/schedule` cannot be read.
pub fn all(host: &Host) -> Result<Vec<Schedule>> {
    let mut all = Schedule::all(&RootDir::open(&host.root)?)?;
    all.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
    Ok(all)
}

/// The same, but a file that cannot be read is passed over, with a warning.
///
/// # Errors
/// `/etc/lifeboat/schedule` cannot be listed.
pub(super) fn readable(host: &Host) -> Result<Vec<Schedule>> {
    Schedule::readable(&RootDir::open(&host.root)?)
}

/// The same, with what is known of it. The inventory says which of the BEs are there.
///
/// # Errors
/// As [`all`].
pub fn scheduled(host: &Host, inventory: &Inventory) -> Result<Vec<Scheduled>> {
    let root = RootDir::open(&host.root)?;
    let known = |schedule: Schedule| {
        let found = match inventory.find_by_id(schedule.id) {
            Ok(_) | Err(Error::Refused(_)) => true,
            Err(_) => false,
        };
        let next = calendar::next(&schedule.calendar).ok();
        let record = Record::load(&root, schedule.id)?;
        Ok(Scheduled { schedule, next, record, found })
    };
    all(host)?.into_iter().map(known).collect()
}

/// What is scheduled for a BE, so that it can be removed: also if it is not known what that is.
///
/// # Errors
/// `/etc/lifeboat/schedule` cannot be read.
pub(super) fn of(host: &Host, environment: &BootEnvironment) -> Result<Option<Schedule>> {
    let Some(descriptor) = &environment.descriptor else { return Ok(None) };
    let found = Schedule::known(&RootDir::open(&host.root)?, descriptor.id);
    Ok(found.unwrap_or_else(|_| Some(Schedule::unknown(descriptor.id, descriptor.name.clone()))))
}

/// The line of a step that calls [`remove`].
pub(super) fn removal(schedule: &Schedule) -> String {
    let Schedule { name, calendar, .. } = schedule;
    format!("remove the timer for '{name}' ({} at '{calendar}')", schedule.what())
}

/// Stops and removes a timer. One that runs now is interrupted.
///
/// # Errors
/// systemctl(1) failed, or a file cannot be removed.
pub(super) fn remove(host: &Host, schedule: &Schedule) -> Result<()> {
    let (root, id) = (RootDir::open(&host.root)?, schedule.id);
    remove_old(host, &root, id)?;
    let units = Units::of(id);
    stop(host, &units);
    Schedule::remove(&root, id)?;
    units.remove(&root)?;
    Record::remove(&root, id)?;
    record::write_metrics(&root)?;
    if is_systemd_running(host) {
        Tool::new("systemctl").arg("daemon-reload").run()?;
    }
    Ok(())
}

/// Stops and removes what an older version made for a BE.
fn remove_old(host: &Host, root: &RootDir, id: Id) -> Result<()> {
    Schedule::remove_old(root, id)?;
    let Some(units) = Units::old(root, id)? else { return Ok(()) };
    stop(host, &units);
    units.remove(root)?;
    Record::remove_old(root, id)
}

/// Stops units. One that is not loaded any more has nothing to stop.
fn stop(host: &Host, Units { timer, service }: &Units) {
    if !is_systemd_running(host) {
        return;
    }
    for words in [&["disable", "--now", timer][..], &["stop", service]] {
        if let Err(why) = Tool::new("systemctl").args(words).run() {
            log::warn!("{why}");
        }
    }
}

/// Whether systemd runs (sd_booted(3)).
fn is_systemd_running(host: &Host) -> bool {
    host.run.join("systemd/system").exists()
}

fn refuse_without_systemd(host: &Host, root: &RootDir) -> Result<()> {
    if is_started_by_systemd(root) && is_systemd_running(host) {
        return Ok(());
    }
    Err(Refusal::NoTimers.into())
}

enum Step<'a> {
    Write(&'a Schedule),
    Start(&'a Schedule),
}

struct State<'a> {
    host: &'a Host,
    root: &'a RootDir,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Write(schedule) => {
                let Units { timer, service } = Units::of(schedule.id);
                let file = Schedule::path(schedule.id);
                write!(f, "write /{}, and the units {service} and {timer}", file.display())
            }
            Step::Start(schedule) => write!(f, "start {}", Units::of(schedule.id).timer),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, _: &mut dyn Report) -> Result<()> {
        match self {
            Step::Write(schedule) => {
                let State { host, root } = *state;
                schedule.store(root)?;
                units::write(root, schedule)?;
                if Units::old(root, schedule.id)?.is_some() {
                    Record::load(root, schedule.id)?.store(root, schedule.id)?;
                }
                remove_old(host, root, schedule.id)
            }
            Step::Start(schedule) => {
                Tool::new("systemctl").arg("daemon-reload").run()?;
                let Units { timer, .. } = Units::of(schedule.id);
                Tool::new("systemctl").args(["enable", "--now", "--quiet"]).arg(&timer).run()?;
                // One that was started before goes on with the old time.
                Tool::new("systemctl").arg("restart").arg(&timer).run()?;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Descriptor;

    #[test]
    fn a_schedule_whose_boot_environment_is_on_no_disk_is_marked() {
        let directory = tempfile::tempdir().unwrap();
        let host = Host::below(directory.path());
        let root = RootDir::open(directory.path()).unwrap();
        let schedule = Schedule::example("second");
        schedule.store(&root).unwrap();
        let mut inventory = Inventory::default();
        let is_found = |inventory: &Inventory| scheduled(&host, inventory).unwrap()[0].found;
        assert!(!is_found(&inventory));
        let mut second = BootEnvironment::empty(std::path::Path::new("/dev/lifeboat-none1"));
        let mut descriptor = Descriptor::new(schedule.name.clone(), None);
        descriptor.id = schedule.id;
        second.descriptor = Some(descriptor);
        inventory.environments = vec![second.clone(), second];
        assert!(is_found(&inventory), "there are even two of them");
    }
}
