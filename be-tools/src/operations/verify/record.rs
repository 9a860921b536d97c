//! `be verify --record`: a manifest of what a BE holds now.

use std::fmt::{Display, Formatter};

use super::subject::refuse_unfinished;
use crate::discover;
use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::environment::{BootEnvironment, Inventory, manifest};
use crate::error::Result;
use crate::host::Host;
use crate::operations::write_descriptor::{descriptor_of, hold};
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::session::lock::{InProgress, Lock};
use crate::step;
use crate::storage::namespace;
use crate::tree::manifest::{Manifest, Unknown};

/// Writes the manifest of what a BE, the running one if none is named, holds now. All files are
/// read.
///
/// # Errors
/// The BE is unmanaged, incomplete, or cannot be written.
pub fn record(host: &Host, reference: Option<&str>, report: &mut dyn Report) -> Result<()> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find_or_running(reference)?;
    lock.note(InProgress::on("verify", environment));
    descriptor_of(environment)?;
    inventory.refuse_twin(environment)?;
    refuse_unfinished(environment)?;
    let holds = hold(host, &inventory, environment.own_devices())?;
    let steps = [Step(environment)];
    let plan = Plan {
        title: format!("Record what '{}' holds now", environment.name()),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(());
    }
    holds.refuse_changed()?;
    step::run_all(&steps, &mut State { host, inventory: &inventory, lock: &lock }, report)
}

/// The only step.
struct Step<'a>(&'a BootEnvironment);

struct State<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    lock: &'a Lock,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "read every file and write the manifest of '{}'", self.0.name())
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        let (environment, mode) = (self.0, MountMode::ReadWrite);
        namespace::enter_private_namespace()?;
        let mounted = MountedEnvironment::mount_for_commands(
            state.host,
            state.inventory,
            environment,
            mode,
            &[],
        )?;
        for warning in mounted.warnings() {
            report.fall_short(warning);
        }
        let root = RootDir::open(mounted.root())?;
        let descriptor = descriptor_of(environment)?;
        descriptor.refuse_other(&root, &environment.root.device)?;
        let mut rules = manifest::rules(environment.swap_files(), &[]);
        if environment.running {
            // Those in use that are not in its fstab.
            let swaps = std::fs::read_to_string(state.host.proc.join("swaps"));
            rules = rules.swap_files(&swaps.unwrap_or_default());
        }
        let nothing = Manifest::default();
        let recorded = state.lock.without_boot_lock(|| {
            manifest::record(mounted.root(), &rules, &nothing, Unknown::Read, report)
        })??;
        manifest::write(&root, &recorded.manifest)?;
        manifest::say_unread(&recorded.unread, report);
        drop(root);
        mounted.sync()?;
        mounted.unmount()
    }
}
