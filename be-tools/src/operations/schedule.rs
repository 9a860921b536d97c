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
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::own_files::is_started_by_systemd;
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::step;
use crate::tool::Tool;
pub use device_check::refuse_unscheduled_device;
pub use entry::{Action, Schedule};
pub use location::Location;
pub use record::Record;
pub use run::run;

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
    let schedule = Schedule {
        id: descriptor.id,
        name: descriptor.name.clone(),
        calendar: request.calendar.clone(),
        action: request.action,
        force: request.force,
        mail: request.mail.clone(),
        root: Some(Location::of(&inventory, environment)),
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
        step::run_all(&steps, &mut State { root: &root }, report)?;
    }
    Ok(())
}

/// Everything that is scheduled on this system, sorted by name.
///
/// # Errors
/// A file of `/etc/lifeboat/schedule` cannot be read.
pub fn scheduled(host: &Host) -> Result<Vec<Scheduled>> {
    let root = RootDir::open(&host.root)?;
    let mut all = Vec::new();
    for schedule in Schedule::all(&root)? {
        let next = calendar::next(&schedule.calendar).ok();
        let record = Record::load(&root, schedule.id)?;
        all.push(Scheduled { schedule, next, record });
    }
    all.sort_by(|a, b| a.schedule.name.as_str().cmp(b.schedule.name.as_str()));
    Ok(all)
}

/// Stops and removes a timer. One that runs now is interrupted.
///
/// # Errors
/// systemctl(1) failed, or a file cannot be removed.
pub(super) fn remove(host: &Host, schedule: &Schedule) -> Result<()> {
    let root = RootDir::open(&host.root)?;
    let names = [units::timer_name(schedule.id), units::service_name(schedule.id)];
    // A unit that is not loaded any more has nothing to stop.
    let stopped = Tool::new("systemctl").arg("disable").arg("--now").args(&names[..1]).run();
    let service = Tool::new("systemctl").arg("stop").args(&names[1..]).run();
    if let Some(why) = [stopped, service].into_iter().find_map(|done| done.err()) {
        log::warn!("{why}");
    }
    schedule.remove(&root)?;
    units::remove(&root, schedule.id)?;
    Record::remove(&root, schedule.id)?;
    record::write_metrics(&root, &Schedule::all(&root)?)?;
    Tool::new("systemctl").arg("daemon-reload").run()?;
    Ok(())
}

fn refuse_without_systemd(host: &Host, root: &RootDir) -> Result<()> {
    if is_started_by_systemd(root) && host.run.join("systemd/system").exists() {
        return Ok(());
    }
    Err(Refusal::NoTimers.into())
}

enum Step<'a> {
    Write(&'a Schedule),
    Start(&'a Schedule),
}

struct State<'a> {
    root: &'a RootDir,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Write(schedule) => {
                let (timer, service) =
                    (units::timer_name(schedule.id), units::service_name(schedule.id));
                let file = Schedule::path(schedule.id);
                write!(f, "write /{}, and the units {service} and {timer}", file.display())
            }
            Step::Start(schedule) => write!(f, "start {}", units::timer_name(schedule.id)),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, _: &mut dyn Report) -> Result<()> {
        match self {
            Step::Write(schedule) => {
                schedule.store(state.root)?;
                units::write(state.root, schedule)
            }
            Step::Start(schedule) => {
                Tool::new("systemctl").arg("daemon-reload").run()?;
                let timer = units::timer_name(schedule.id);
                Tool::new("systemctl").args(["enable", "--now", "--quiet"]).arg(&timer).run()?;
                // One that was started before goes on with the old time.
                Tool::new("systemctl").arg("restart").arg(&timer).run()?;
                Ok(())
            }
        }
    }
}
