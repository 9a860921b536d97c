//! The confirmation of the running trial, its deadline, and the notice at login (docs/design.md,
//! "Trial, confirm, fallback").

mod deadline;
mod health_checks;
mod notice;
mod running;

use std::time::{Duration, Instant};

use crate::environment::Trial;
use crate::error::Result;
use crate::host::Host;
use crate::plan::{Plan, Report, Silent, go_on};
use crate::session::lock::BootLock;
use crate::step;
use crate::storage::device::Devices;
use crate::storage::namespace;
use running::RunningEnvironment;

pub use deadline::deadline;

/// The root directory of the running BE.
const ROOT: &str = "/";

/// How long the confirmation at boot is tried again: less than the deadline of the trial.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a confirmation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The BE of this name was on trial and boots from now on.
    Permanent(String),
    /// The running BE was not on trial. Its count of attempts is cleared.
    NoTrial,
}

/// Makes the running trial permanent. `None` if the report stopped after the plan.
///
/// # Errors
/// An ESP or a variable cannot be read or written. The confirmation can be run again.
pub fn confirm(host: &Host, report: &mut dyn Report) -> Result<Option<Confirmation>> {
    let lock = BootLock::acquire(host)?;
    namespace::enter_private_namespace()?;
    confirm_running(host, &lock, report)
}

/// What lifeboat-used.service does: notes in the descriptor that the running system is used, however
/// far it came up.
///
/// # Errors
/// Another operation writes boot entries, or the descriptor cannot be read or written.
pub fn note_used(host: &Host) -> Result<()> {
    let _lock = BootLock::acquire(host)?;
    running::note_changed(ROOT.as_ref())
}

/// What lifeboat-confirm.service does: notes in the descriptor that the BE has run, writes the
/// notice of trials that failed, runs the health checks, and then confirms as [`confirm`] does.
///
/// # Errors
/// Those of [`confirm`], after [`PATIENCE`], and
/// [`Error::HealthCheck`](crate::error::Error::HealthCheck). The trial is then not confirmed.
pub fn confirm_at_boot(host: &Host) -> Result<Confirmation> {
    // Before the checks: one that fails leaves a system that runs, and is used.
    if let Err(e) = note_used(host) {
        log::warn!("{e}");
    }
    if let Err(e) = notice::write(host) {
        log::warn!("{e}");
    }
    if try_again(|| running::trial(host))? == Some(Trial::Running) {
        health_checks::run(ROOT.as_ref(), health_checks::TIME)?;
    }
    let confirmed = try_again(|| {
        let lock = BootLock::acquire(host)?;
        // The lock may have been taken before.
        if let Err(e) = running::note_changed(ROOT.as_ref()) {
            log::warn!("{e}");
        }
        // In a new namespace, so that each attempt sees what has been mounted since.
        namespace::in_private_namespace(|| confirm_running(host, &lock, &mut Silent))
    });
    Ok(confirmed?.unwrap_or(Confirmation::NoTrial))
}

fn confirm_running(
    host: &Host,
    lock: &BootLock,
    report: &mut dyn Report,
) -> Result<Option<Confirmation>> {
    let running = RunningEnvironment::find(Devices::scan(host)?)?;
    let loader = running.as_ref().map(|running| running.loader(host)).transpose()?;
    let trial = loader.as_ref().map_or(Ok(None), |loader| loader.running_trial())?;
    let steps = loader.as_ref().map_or_else(|| Ok(Vec::new()), |loader| loader.confirm())?;
    let mut plan = Plan {
        title: "Make the running trial permanent".into(),
        steps: step::lines::<()>(&steps),
        ..Plan::default()
    };
    let confirmed = match (trial, &running) {
        (Some(Trial::Running), Some(running)) => {
            Confirmation::Permanent(running.descriptor.name.to_string())
        }
        _ => {
            plan.notes.push(
                "no trial is running: only a count of attempts is cleared, if there is one".into(),
            );
            Confirmation::NoTrial
        }
    };
    if !lock.confirm(report, &plan)? {
        return Ok(None);
    }
    step::run_all(&steps, &mut (), report)?;
    if let Err(e) = running::note_confirmed(ROOT.as_ref()) {
        log::warn!("{e}");
    }
    Ok(Some(confirmed))
}

/// Tries again for [`PATIENCE`]: at boot the ESP may appear late or be in use by another program,
/// and another operation may write boot entries.
fn try_again<T>(attempt: impl Fn() -> Result<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Err(why) if Instant::now() < end => log::info!("{why}"),
            other => return other,
        }
        go_on()?;
        std::thread::sleep(Duration::from_secs(2));
    }
}
