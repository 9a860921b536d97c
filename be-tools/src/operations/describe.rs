//! `be describe`: the description in the descriptor.

use std::fmt::{Display, Formatter};

use super::write_descriptor::{WriteDescriptor, descriptor_of, hold};
use crate::discover;
use crate::environment::{Descriptor, Inventory};
use crate::error::Result;
use crate::host::Host;
use crate::loader;
use crate::plan::{Plan, Report};
use crate::session::lock::{InProgress, Lock};
use crate::step;

/// Sets a BE's description.
///
/// # Errors
/// The BE is unmanaged, or cannot be written.
pub fn describe(host: &Host, reference: &str, text: String, report: &mut dyn Report) -> Result<()> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    lock.note(InProgress::on("describe", environment));
    let mut descriptor = descriptor_of(environment)?.clone();
    inventory.refuse_twin(environment)?;
    loader::for_environment(host, &inventory, environment)?;
    let holds = hold(host, &inventory, [&environment.root.device])?;
    let steps = [Step(WriteDescriptor(environment))];
    let plan = Plan {
        title: format!("Describe boot environment '{}' as '{text}'", environment.name()),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(());
    }
    holds.refuse_changed()?;
    descriptor.description = text;
    step::run_all(&steps, &mut State { host, inventory: &inventory, descriptor }, report)
}

/// The only step.
struct Step<'a>(WriteDescriptor<'a>);

struct State<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    /// With the new description.
    descriptor: Descriptor,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, _: &mut dyn Report) -> Result<()> {
        self.0.run(state.host, state.inventory, &state.descriptor)
    }
}
