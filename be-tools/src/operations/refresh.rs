//! `be refresh`: brings an existing BE up to date with its source, changing only what differs.

mod job;
mod plan;
mod prepare;
mod request;
mod step;

pub use request::RefreshRequest;

use crate::environment::Descriptor;
use crate::error::Result;
use crate::host::Host;
use crate::plan::Report;
use crate::session::Session;
use crate::session::lock::Lock;
use crate::step::run_all;
use job::Job;
use step::State;

/// The result of a refresh.
#[derive(Clone, Debug)]
pub struct RefreshSummary {
    /// The descriptor of the BE.
    pub descriptor: Descriptor,
    /// Entries in the BE.
    pub files: u64,
    /// Entries that differed and were written.
    pub changed: u64,
    /// Entries that were removed.
    pub removed: u64,
}

/// Brings a BE up to date. `None` if the report stopped after the plan.
///
/// # Errors
/// A [`Refusal`](crate::Refusal), before anything is written. After any other error the BE is
/// marked as incomplete, and the command can be run again.
pub fn refresh(
    host: &Host,
    request: &RefreshRequest,
    report: &mut dyn Report,
) -> Result<Option<RefreshSummary>> {
    let wait = request.unattended;
    let lock = if wait { Lock::wait(host, report)? } else { Lock::acquire(host)? };
    let session = Session::new(host, "refresh", lock)?;
    let job = Job::prepare(&session, request)?;
    let steps = job.steps();
    if !session.lock.confirm(report, &job.plan(&steps))? {
        return Ok(None);
    }
    job.holds.claim()?;
    let mut state = State::new(&job, &session);
    run_all(&steps, &mut state, report)?;
    let State { descriptor, files, changed, removed, .. } = state;
    Ok(Some(RefreshSummary { descriptor, files, changed, removed }))
}
