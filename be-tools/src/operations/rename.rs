//! `be rename`: another name in the descriptor and in the firmware's menu.

use std::fmt::{Display, Formatter};

use super::write_descriptor::{WriteDescriptor, descriptor_of, hold};
use crate::discover;
use crate::environment::{Descriptor, Inventory, Name, OperatingSystem};
use crate::error::Result;
use crate::host::Host;
use crate::loader;
use crate::plan::{Plan, Report};
use crate::session::lock::{InProgress, Lock};
use crate::step;

/// Gives a BE another name. Its id, its loader directory and the number of its boot entry stay; the
/// description of the boot entry changes.
///
/// # Errors
/// The name is taken, or the BE is unmanaged.
pub fn rename(host: &Host, reference: &str, name: Name, report: &mut dyn Report) -> Result<()> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    lock.note(InProgress::on("rename", environment));
    let mut descriptor = descriptor_of(environment)?.clone();
    inventory.refuse_twin(environment)?;
    loader::for_environment(host, &inventory, environment)?;
    let holds = hold(host, &inventory, [&environment.root.device])?;
    if descriptor.name != name {
        inventory.refuse_taken(&name)?;
    }
    let steps = [Step::Write(WriteDescriptor(environment)), Step::NameEntry];
    let plan = Plan {
        title: format!("Rename boot environment '{}' to '{name}'", environment.name()),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(());
    }
    holds.refuse_changed()?;
    descriptor.name = name;
    let (inventory, os) = (&inventory, &environment.os);
    step::run_all(&steps, &mut State { host, inventory, os, descriptor }, report)
}

enum Step<'a> {
    Write(WriteDescriptor<'a>),
    /// The entry is looked up by the id when it is renamed, whatever a scan could see of it.
    NameEntry,
}

struct State<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    os: &'a OperatingSystem,
    /// With the new name.
    descriptor: Descriptor,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Write(write) => write.fmt(f),
            Step::NameEntry => f.write_str("give its boot entry, if it has one, the new name"),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, _: &mut dyn Report) -> Result<()> {
        let State { host, inventory, os, descriptor } = state;
        match self {
            Step::Write(write) => write.run(host, inventory, descriptor),
            Step::NameEntry => loader::set_description(host, descriptor, os),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::{Firmware, environment};
    use crate::plan::testing::Recorder;

    #[test]
    fn the_boot_entry_gets_the_new_name_as_the_plan_says() {
        let (firmware, found) = (Firmware::new(), environment("second", "aaaa-02"));
        let descriptor = Descriptor::new("third".parse().unwrap(), None);
        let file = format!(r"\EFI\lifeboat\{}\grubx64.efi", descriptor.id.short());
        let number = firmware.add("Lifeboat: second", &file);
        let (host, inventory) = (firmware.host(), Inventory::default());
        let mut state = State { host: &host, inventory: &inventory, os: &found.os, descriptor };
        let (steps, mut recorder) = ([Step::NameEntry], Recorder::default());
        step::run_all(&steps, &mut state, &mut recorder).unwrap();
        assert_eq!(recorder.steps, ["give its boot entry, if it has one, the new name"]);
        let entry = firmware.entries().entry(number).unwrap().unwrap();
        assert!(entry.option.description.starts_with("Lifeboat: third"), "{entry:?}");
    }
}
