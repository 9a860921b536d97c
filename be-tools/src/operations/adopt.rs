//! The running, unmanaged system becomes a BE: `be adopt`, and the first step of the first `be
//! create`.

use std::path::Path;

use crate::discover;
use crate::environment::Inventory;
use crate::environment::{BootEnvironment, DESCRIPTOR_PATH, Descriptor, Name, Operation, State};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::{self, Stage, Subject};
use crate::localize;
use crate::plan::{Plan, Report, go_on};
use crate::root_dir::RootDir;
use crate::session::lock::Lock;
use crate::storage::namespace;

/// An adoption that is known to be possible. Preparing one writes nothing.
pub struct Adoption {
    descriptor: Descriptor,
    environment: BootEnvironment,
}

impl Adoption {
    /// The running system is no BE yet, or an adoption of it was interrupted.
    pub fn is_due(running: &BootEnvironment) -> bool {
        running.descriptor.as_ref().is_none_or(|d| {
            running.running && d.state == State::Incomplete && d.operation == Some(Operation::Adopt)
        })
    }

    /// Whether the running system can be adopted under `name` (default: the host's).
    ///
    /// # Errors
    /// When it is a BE already, the name is taken, or the host's name cannot be one.
    pub fn prepare(
        inventory: &Inventory,
        running: &BootEnvironment,
        name: Option<Name>,
    ) -> Result<Self> {
        let session = running.descriptor.clone();
        if let (Some(descriptor), false) = (&session, Self::is_due(running)) {
            return Err(Refusal::Other(format!(
                "the running system is boot environment '{}' already: `be rename` gives it \
                another name",
                descriptor.name
            ))
            .into());
        }
        let name = match (name, &session) {
            (Some(name), _) => name,
            (None, Some(session)) => session.name.clone(),
            (None, None) => host_name()?,
        };
        if session.as_ref().is_none_or(|b| b.name != name) {
            inventory.refuse_taken(&name)?;
        }
        let mut descriptor = session.unwrap_or_else(|| Descriptor::new(name.clone(), None));
        descriptor.name = name;
        let shared = running.file_systems.iter().filter(|f| f.shared && f.mountpoint.is_absolute());
        descriptor.shared = shared.map(|f| f.mountpoint.clone()).collect();
        let environment =
            BootEnvironment { descriptor: Some(descriptor.clone()), ..running.clone() };
        Ok(Adoption { descriptor, environment })
    }

    /// Its name once it is done.
    pub fn name(&self) -> &Name {
        &self.descriptor.name
    }

    /// What will be written, one step each: all of it on the running root and the ESP.
    ///
    /// # Errors
    /// Its loader is not known.
    pub fn steps(
        &self,
        host: &Host,
        inventory: &Inventory,
        boot_entry: bool,
    ) -> Result<Vec<String>> {
        let loader = loader::for_environment(host, inventory, &self.environment)?;
        let files = [&localize::ADOPTED_FILES[..], loader.settings().adopted_files()].concat();
        let mut steps = vec![
            format!("adopt the running system as '{}': write /{DESCRIPTOR_PATH}", self.name()),
            format!("adopt: write {}", files.join(", ")),
        ];
        steps.extend(loader.lines(Stage::Adopt));
        if boot_entry {
            steps.extend(loader.lines(Stage::InstallAdopted));
        }
        Ok(steps)
    }

    /// Does it. The running root is `/`.
    ///
    /// # Errors
    /// When a file, the ESP or a variable cannot be written; running it again is safe.
    pub fn run(
        self,
        host: &Host,
        inventory: &Inventory,
        boot_entry: bool,
        report: &mut dyn Report,
    ) -> Result<Descriptor> {
        report.part(&format!("adopting the running system as '{}'", self.name()));
        let root = RootDir::open(Path::new("/"))?;
        let mut descriptor = self.descriptor;
        descriptor.begin(Operation::Adopt, &root)?;
        let loader = loader::for_environment(host, inventory, &self.environment)?;
        localize::adopt(&root, loader.settings())?;
        go_on()?;
        if boot_entry {
            loader.install(&Subject::new(&descriptor, &self.environment, Path::new("/")))?;
            descriptor.complete(&root)?;
            loader.set_listed(true)?;
        } else {
            descriptor.complete(&root)?;
        }
        Ok(descriptor)
    }
}

/// Makes the running system a BE; `None` when the report stopped after the plan.
///
/// # Errors
/// See [`Adoption::prepare`] and [`Adoption::run`].
pub fn adopt(
    host: &Host,
    name: Option<Name>,
    report: &mut dyn Report,
) -> Result<Option<Descriptor>> {
    let _lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let running = inventory.running().ok_or_else(|| {
        Error::Failed(
            "the running system is on none of the disks that were found: it cannot be adopted"
                .into(),
        )
    })?;
    let adoption = Adoption::prepare(&inventory, running, name)?;
    loader::for_environment(host, &inventory, &adoption.environment)?.prove(running)?;
    let plan = Plan {
        title: format!("Make the running system boot environment '{}'", adoption.name()),
        steps: adoption.steps(host, &inventory, true)?,
        ..Plan::default()
    };
    if !report.confirm(&plan)? {
        return Ok(None);
    }
    namespace::enter_private_namespace()?;
    adoption.run(host, &inventory, true, report).map(Some)
}

/// The host's name without its domain.
fn host_name() -> Result<Name> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    let short = host.split('.').next().unwrap_or_default();
    short.parse().map_err(|_| {
        Error::Usage(format!(
            "the host's name '{host}' cannot be a boot environment's: give one (`be adopt NAME`, \
            or --current NAME of `be create`)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupted_adoption_is_taken_up_again_and_an_interrupted_copy_is_not() {
        let mut running = BootEnvironment::empty(Path::new("/dev/vda1"));
        running.running = true;
        assert!(Adoption::is_due(&running));
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        running.descriptor = Some(descriptor.clone());
        assert!(!Adoption::is_due(&running), "half a copy would be called complete");
        descriptor.operation = Some(Operation::Adopt);
        running.descriptor = Some(descriptor);
        assert!(Adoption::is_due(&running));
    }
}
