//! `be list`

use clap::Args;
use comfy_table::Table;
use indicatif::HumanBytes;
use serde::Serialize;

use super::context::Context;
use super::headings::OUTPUT;
use super::output::{print_json, print_line};
use super::table;
use crate::discover;
use crate::environment::{BootEnvironment, Trial};
use crate::error::Result;
use crate::escape::say;
use crate::operations::schedule::{self, Scheduled};

/// List the boot environments on all disks: state, health, and what boots next (lustatus)
#[derive(Debug, Args)]
pub struct List {
    /// List only this one
    be: Option<String>,
    /// Print everything that is known about them, as JSON
    #[arg(long, help_heading = OUTPUT, display_order = 100)]
    json: bool,
}

#[derive(Serialize)]
struct EnvironmentList<'a> {
    environments: Vec<&'a BootEnvironment>,
    #[serde(skip_serializing_if = "<[Scheduled]>::is_empty")]
    schedules: &'a [Scheduled],
    warnings: &'a [String],
}

impl List {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("list")?;
        let inventory = discover::glance(&context.host)?;
        let environments = match &self.be {
            Some(reference) => vec![inventory.find(reference)?],
            None => inventory.environments.iter().collect(),
        };
        let mut schedules = schedule::scheduled(&context.host, &inventory).unwrap_or_else(|why| {
            say(&format!("warning: {why}"));
            Vec::new()
        });
        let is_listed = |e: &&BootEnvironment, found: &Scheduled| {
            e.descriptor.as_ref().is_some_and(|d| d.id == found.schedule.id)
        };
        schedules.retain(|found| environments.iter().any(|e| is_listed(e, found)));
        let warnings = &inventory.warnings;
        if self.json {
            print_json(&EnvironmentList { environments, schedules: &schedules, warnings })?;
            return Ok(0);
        }
        for warning in &inventory.warnings {
            say(&format!("warning: {warning}"));
        }
        if environments.is_empty() {
            print_line("No boot environment was found on any disk.")?;
            return Ok(0);
        }
        table::print(&render(&environments))?;
        for found in &schedules {
            print_line("")?;
            print_line(&scheduled(found))?;
        }
        let failed = environments.iter().filter(|e| e.trial == Some(Trial::Failed));
        for environment in failed {
            let name = environment.name();
            print_line("")?;
            print_line(&format!(
                "The trial of '{name}' failed: it was started and did not confirm itself. \
                 `be check {name}` looks for the reason; `be activate {name}` tries it again."
            ))?;
        }
        Ok(0)
    }
}

/// The table for people.
fn render(environments: &[&BootEnvironment]) -> Table {
    let mut rows = table::with_header(&[
        "name", "os", "kernel", "state", "running", "next", "trial", "created", "size", "health",
        "devices",
    ]);
    for e in environments {
        let devices: Vec<String> =
            e.own_devices().iter().map(|d| d.display().to_string()).collect();
        let created = e.descriptor.as_ref().map(|d| table::minute(&d.created));
        let row = [
            e.reference.clone(),
            e.os.short(),
            e.kernel.clone().unwrap_or_else(|| "-".into()),
            e.state_text(),
            yes(e.running),
            yes(e.next_boot),
            trial(e.trial).into(),
            created.unwrap_or_else(|| "-".into()),
            e.used.map_or_else(|| "-".into(), |b| HumanBytes(b).to_string()),
            health(e),
            devices.join(","),
        ];
        table::add(&mut rows, row);
    }
    rows
}

/// One sentence on a schedule.
fn scheduled(found: &Scheduled) -> String {
    let Scheduled { schedule, next, record, .. } = found;
    let next = next.as_ref().map(|next| format!(", next {next}")).unwrap_or_default();
    let last = match (record.last_success, record.last_status) {
        (_, None) => ", and has not run yet".to_owned(),
        (None, Some(status)) => format!(", and has never succeeded (last status {status})"),
        (Some(time), Some(0 | 4)) => format!(", last success {}", table::time(time)),
        (Some(time), Some(status)) => {
            format!(", last success {}; the last run failed (status {status})", table::time(time))
        }
    };
    format!(
        "'{}' is scheduled: {} at '{}'{next}{last}.",
        schedule.name,
        schedule.what(),
        schedule.calendar
    )
}

fn yes(is: bool) -> String {
    if is { "yes" } else { "-" }.into()
}

fn trial(state: Option<Trial>) -> &'static str {
    match state {
        None => "-",
        Some(Trial::Pending) => "pending",
        Some(Trial::Running) => "running",
        Some(Trial::Failed) => "failed",
        Some(Trial::Interrupted) => "interrupted",
    }
}

fn health(e: &BootEnvironment) -> String {
    match e.problems.as_slice() {
        [] => "ok".into(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first} (+{} more)", rest.len()),
    }
}
