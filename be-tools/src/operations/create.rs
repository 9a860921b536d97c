//! `be create`: a new BE from an existing one, by blocks or by files.

mod blocks;
mod job;
mod method;
mod plan;
mod prepare;
mod request;
mod step;
mod target;

pub use request::{CreateRequest, Method};

use crate::environment::Descriptor;
use crate::error::Result;
use crate::host::Host;
use crate::plan::Report;
use crate::session::Session;
use crate::step::run_all;
use job::Job;
use step::State;

/// Makes a new BE and returns its descriptor. `None` if the report stopped after the plan.
///
/// # Errors
/// A [`Refusal`](crate::Refusal), before anything is written. After any other error the BE is
/// marked as incomplete, and the command can be run again.
pub fn create(
    host: &Host,
    request: &CreateRequest,
    report: &mut dyn Report,
) -> Result<Option<Descriptor>> {
    let session = Session::new(host, "create")?;
    let job = Job::prepare(&session, request)?;
    let loaders = job.loaders(&session)?;
    let steps = job.steps(&session, &loaders)?;
    if !report.confirm(&job.plan(&session, &steps))? {
        return Ok(None);
    }
    job.holds.claim()?;
    let mut state = State::new(&job, &session);
    run_all(&steps, &mut state, report)?;
    Ok(Some(state.descriptor))
}
