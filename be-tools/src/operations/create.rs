//! `be create`: a new BE from an existing one, by blocks or by files.
//!
//! A request becomes a job: `prepare` finds the source and refuses what cannot be, `target` judges
//! each device, `method` chooses how each file system is filled, and `plan` shows it. `step` does it.

mod blocks;
mod job;
mod method;
mod plan;
mod prepare;
mod request;
mod step;
mod target;

pub use request::{CreateRequest, Method};

use crate::discover;
use crate::environment::{Descriptor, Inventory, Name};
use crate::error::Result;
use crate::host::Host;
use crate::plan::Report;
use crate::session::Session;
use crate::session::lock::Lock;
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
    let session = Session::new(host, "create", Lock::acquire(host)?)?;
    let job = Job::prepare(&session, request)?;
    let loaders = job.loaders(&session)?;
    let steps = job.steps(&session, &loaders)?;
    if !session.lock.confirm(report, &job.plan(&session, &steps))? {
        return Ok(None);
    }
    job.holds.claim()?;
    let mut state = State::new(&job, &session);
    run_all(&steps, &mut state, report)?;
    Ok(Some(state.descriptor))
}

/// What an interrupted [`create`] has left of its BE, in one sentence.
///
/// # Errors
/// As [`discover::discover`].
pub fn remains(host: &Host, name: &Name) -> Result<String> {
    Ok(remains_in(&discover::discover(host)?, name))
}

fn remains_in(inventory: &Inventory, name: &Name) -> String {
    match inventory.find(name.as_str()) {
        Ok(left) => {
            format!("'{name}' on {} is {}", left.root.device.display(), left.state_text())
        }
        Err(_) => format!("there is no '{name}' on any disk: what was to hold it may be blank"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::BootEnvironment;
    use std::path::Path;

    #[test]
    fn what_an_interrupted_creation_left_is_said() {
        let name: Name = "second".parse().unwrap();
        let mut inventory = Inventory::default();
        let nothing = "there is no 'second' on any disk: what was to hold it may be blank";
        assert_eq!(remains_in(&inventory, &name), nothing);
        let mut left = BootEnvironment::empty(Path::new("/dev/vda3"));
        left.descriptor = Some(Descriptor::new(name.clone(), None));
        inventory.environments.push(left);
        assert_eq!(remains_in(&inventory, &name), "'second' on /dev/vda3 is incomplete (create)");
    }
}
