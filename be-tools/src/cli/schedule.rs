//! `be schedule`

use clap::Args;

use super::acting_options::ActingOptions;
use super::context::Context;
use super::output::{print_json, print_line};
use super::table;
use crate::discover;
use crate::error::{Error, Result};
use crate::operations::schedule::{self, Action, ScheduleRequest, Scheduled};

/// Bring a boot environment up to date at certain times, by a systemd timer (lumake -t)
#[derive(Debug, Args)]
#[command(
    after_help = "TIME is a calendar event as in systemd.time(7). The operation has the lowest \
        priority for processors and disks. If the machine is off at that time, the run is skipped. \
        A boot environment that runs is left alone. One that has run, or that a run, an upgrade or \
        a mount has changed since it was last equal to its source, is not refreshed without \
        --force, because what is only in it would be lost; an upgrade loses nothing. Without \
        arguments, what is scheduled is listed, with the next time and the last success, and which of them are on no disk any more; the times are also in a file for \
        the node exporter of Prometheus.\n\nExamples:\n  \
    be schedule nightly 02:30\n  \
    be schedule nightly 'Mon..Fri 02:30' --mail root\n  \
    be schedule second weekly --security\n  \
    be cancel nightly"
)]
pub struct Schedule {
    /// The boot environment
    #[arg(requires = "time")]
    be: Option<String>,
    /// When, such as 'daily', '02:30' or 'Mon..Fri 03:00'
    time: Option<String>,
    /// Upgrade all its packages, instead of a refresh
    #[arg(long, requires = "be", conflicts_with = "security")]
    dist: bool,
    /// Install security fixes, instead of a refresh
    #[arg(long, requires = "be")]
    security: bool,
    /// Refresh it even if it has run or was changed, or the machine starts it by itself: what is only
    /// in it is lost
    #[arg(long, requires = "be", conflicts_with_all = ["dist", "security"])]
    force: bool,
    /// Send a mail to this address when it fails, by the system's sendmail
    #[arg(long, value_name = "ADDRESS", requires = "be")]
    mail: Option<String>,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Schedule {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("schedule")?;
        let (Some(reference), Some(calendar)) = (self.be, self.time) else {
            return list(context, self.acting.json);
        };
        if self.mail.iter().any(|address| address.contains(char::is_control)) {
            return Err(Error::Usage("an address for mail has no control characters".into()));
        }
        let action = match (self.dist, self.security) {
            (true, _) => Action::Upgrade,
            (_, true) => Action::SecurityFixes,
            _ => Action::Refresh,
        };
        let (force, mail) = (self.force, self.mail);
        let request = ScheduleRequest { reference, calendar, action, force, mail };
        let mut report = context.unasked_report("schedule", &self.acting);
        schedule::schedule(&context.host, &request, &mut report)?;
        Ok(0)
    }
}

fn list(context: &Context, json: bool) -> Result<u8> {
    let inventory = discover::glance(&context.host)?;
    let all = schedule::scheduled(&context.host, &inventory)?;
    if json {
        print_json(&all)?;
        return Ok(0);
    }
    if all.is_empty() {
        print_line("Nothing is scheduled.")?;
        return Ok(0);
    }
    let mut rows =
        table::with_header(&["name", "what", "time", "next", "last success", "last status"]);
    let mut gone = Vec::new();
    for Scheduled { schedule, next, record, found } in all {
        let next = if found {
            next
        } else {
            gone.push(schedule.name.clone());
            Some("not found".into())
        };
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".into());
        let row = [
            schedule.name.to_string(),
            schedule.what(),
            schedule.calendar,
            or_none(next),
            or_none(record.last_success.map(table::time)),
            or_none(record.last_status.map(|status| status.to_string())),
        ];
        table::add(&mut rows, row);
    }
    table::print(&rows)?;
    for name in gone {
        print_line("")?;
        print_line(&format!(
            "'{name}' was not found on any disk, so its timer fails: `be cancel {name}` removes it."
        ))?;
    }
    Ok(0)
}
