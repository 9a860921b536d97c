//! The running, unmanaged system becomes a BE: `be adopt`, and the first steps of the first `be
//! create`.

use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::discover;
use crate::environment::{
    self, BootEnvironment, DESCRIPTOR_PATH, Descriptor, Id, Inventory, Name, Operation,
};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::{self, InstallTarget, Loader, Stage};
use crate::localize;
use crate::own_files::{self, HISTORY_PATH};
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::session::lock::{InProgress, Lock};
use crate::step;
use crate::storage::checkpoint::checkpoint;
use crate::storage::namespace;

/// An adoption that is known to be possible. To prepare one writes nothing.
pub struct Adoption {
    descriptor: Descriptor,
    environment: BootEnvironment,
    /// The root directory of the running system: `/`, except in tests.
    root: PathBuf,
}

impl Adoption {
    /// Whether the running system is not a BE yet, or an adoption of it was interrupted.
    pub fn is_due(running: &BootEnvironment) -> bool {
        running.descriptor.as_ref().is_none_or(|d| {
            running.running
                && d.state == environment::State::Incomplete
                && d.operation == Some(Operation::Adopt)
        })
    }

    /// The adoption of the running system under `name`, or under the host's name if that is `None`.
    ///
    /// # Errors
    /// [`Refusal::AlreadyManaged`], [`Refusal::NameTaken`], and when the host's name cannot be a
    /// BE's.
    pub fn prepare(
        inventory: &Inventory,
        running: &BootEnvironment,
        name: Option<Name>,
    ) -> Result<Self> {
        let known = running.descriptor.clone();
        if let (Some(descriptor), false) = (&known, Self::is_due(running)) {
            return Err(Refusal::AlreadyManaged { name: descriptor.name.to_string() }.into());
        }
        let name = match (name, &known) {
            (Some(name), _) => name,
            (None, Some(descriptor)) => descriptor.name.clone(),
            (None, None) => host_name()?,
        };
        if known.as_ref().is_none_or(|descriptor| descriptor.name != name) {
            inventory.refuse_taken(&name)?;
        }
        let mut descriptor = known.unwrap_or_else(|| Descriptor::new(name.clone(), None));
        descriptor.name = name;
        let shared = running.file_systems.iter().filter(|f| f.shared && f.mountpoint.is_absolute());
        descriptor.shared = shared.map(|f| f.mountpoint.clone()).collect();
        let environment =
            BootEnvironment { descriptor: Some(descriptor.clone()), ..running.clone() };
        Ok(Adoption { descriptor, environment, root: "/".into() })
    }

    /// The name that the running system gets.
    pub fn name(&self) -> &Name {
        &self.descriptor.name
    }

    /// The running system, with the descriptor that the adoption writes.
    pub(crate) fn environment(&self) -> &BootEnvironment {
        &self.environment
    }

    /// The id that the running system gets.
    pub(crate) fn id(&self) -> Id {
        self.descriptor.id
    }

    /// The steps. They write to the running root and, for a boot entry, to the ESP and the
    /// firmware's variables, and can be run again.
    ///
    /// # Errors
    /// The running root cannot be read.
    pub(crate) fn steps(&self, loader: &dyn Loader, boot_entry: bool) -> Result<Vec<Step<'_>>> {
        let root = RootDir::open(&self.root)?;
        let (name, settings) = (self.name(), loader.settings());
        let files = localize::adopted_files(&root, settings);
        let mut steps = vec![Step::Begin(name), Step::Install(files)];
        steps.extend(settings.adopted_menu(&root).map(Step::AddPanic));
        steps.extend(boot_entry.then(|| Step::InstallLoader(loader.line(Stage::InstallAdopted))));
        steps.push(Step::Complete(name));
        steps.extend(boot_entry.then_some(Step::MakeActive));
        Ok(steps)
    }

    /// What the steps share.
    pub(crate) fn begin<'a>(&'a self, host: &'a Host, inventory: &'a Inventory) -> State<'a> {
        State { host, inventory, adoption: self, descriptor: self.descriptor.clone() }
    }
}

/// A step of an adoption.
#[derive(Debug)]
pub(crate) enum Step<'a> {
    Begin(&'a Name),
    Install(Vec<&'static str>),
    /// Adds `panic=30` to the kernel lines of this menu.
    AddPanic(&'static str),
    InstallLoader(String),
    Complete(&'a Name),
    MakeActive,
}

pub(crate) struct State<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    adoption: &'a Adoption,
    descriptor: Descriptor,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Begin(name) => {
                write!(
                    f,
                    "adopt the running system as '{name}': write /{DESCRIPTOR_PATH} and \
                    /{HISTORY_PATH}"
                )
            }
            Step::Install(files) => write!(f, "adopt: write {}", files.join(", ")),
            Step::AddPanic(menu) => {
                write!(f, "adopt: add panic=30 to the kernel lines of {menu} that have none")
            }
            Step::InstallLoader(line) => f.write_str(line),
            Step::Complete(name) => write!(f, "adopt: mark '{name}' as complete"),
            Step::MakeActive => f.write_str("adopt: make its boot entry active"),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, _: &mut dyn Report) -> Result<()> {
        let State { host, inventory, adoption, descriptor } = state;
        let environment = &adoption.environment;
        let root = RootDir::open(&adoption.root)?;
        match self {
            Step::Begin(_) => descriptor.begin(Operation::Adopt, &root),
            Step::Install(_) => {
                let loader = loader::for_environment(host, inventory, environment)?;
                let done = localize::adopt(&root, loader.settings(), &host.program())?;
                done.iter().for_each(|done| log::info!("{done}"));
                Ok(())
            }
            Step::AddPanic(menu) => {
                let loader = loader::for_environment(host, inventory, environment)?;
                loader.settings().adopt_menu(&root)?;
                // It stays mounted, unlike the file systems of a copy.
                let directory = Path::new(menu).parent().unwrap_or(Path::new("/"));
                root.directory(directory)?.as_ref().map_or(Ok(()), checkpoint)
            }
            Step::InstallLoader(_) => {
                let target = InstallTarget::new(descriptor, environment, &adoption.root);
                loader::for_environment(host, inventory, environment)?.install(&target)
            }
            Step::Complete(_) => {
                descriptor.complete(&root)?;
                descriptor.note_changed(&root)
            }
            Step::MakeActive => {
                loader::for_environment(host, inventory, environment)?.set_listed(true)
            }
        }
    }

    fn completes_previous(&self) -> bool {
        matches!(self, Step::MakeActive)
    }
}

/// Makes the running system a BE. `None` if the report stopped after the plan.
///
/// # Errors
/// Those of [`Adoption::prepare`]. After a file, the ESP or a variable could not be written, the
/// adoption can be run again.
pub fn adopt(
    host: &Host,
    name: Option<Name>,
    report: &mut dyn Report,
) -> Result<Option<Descriptor>> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let running =
        inventory.running().ok_or(Error::NotOnAnyDisk { system: "the running system" })?;
    let adoption = Adoption::prepare(&inventory, running, name)?;
    lock.note(InProgress::on("adopt", &adoption.environment));
    let loader = loader::for_environment(host, &inventory, &adoption.environment)?;
    loader.prove(running)?;
    if !own_files::is_started_by_systemd(&RootDir::open(&host.root)?) {
        return Err(Refusal::NoSystemd { name: adoption.name().to_string() }.into());
    }
    let steps = adoption.steps(&*loader, true)?;
    let plan = Plan {
        title: format!("Make the running system boot environment '{}'", adoption.name()),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(None);
    }
    namespace::enter_private_namespace()?;
    let mut state = adoption.begin(host, &inventory);
    step::run_all(&steps, &mut state, report)?;
    Ok(Some(state.descriptor))
}

/// The host's name without its domain.
fn host_name() -> Result<Name> {
    let host = nix::unistd::gethostname().unwrap_or_default();
    let host = host.to_string_lossy();
    let short = host.split('.').next().unwrap_or_default();
    short.parse().map_err(|_| {
        Error::Usage(format!(
            "the host's name '{host}' cannot be the name of a boot environment: give another one \
            (`be adopt NAME`, or `be create` with --current NAME)"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::Firmware;
    use crate::plan::testing::Recorder;

    #[test]
    fn the_running_system_is_adopted_as_the_plan_says() {
        let (root, firmware) = (tempfile::tempdir().unwrap(), Firmware::new());
        std::fs::create_dir_all(root.path().join("etc/grub.d")).unwrap();
        std::fs::create_dir_all(root.path().join("boot/grub")).unwrap();
        std::fs::write(root.path().join("etc/grub.d/10_linux"), "").unwrap();
        let menu = root.path().join("boot/grub/grub.cfg");
        std::fs::write(&menu, "linux /boot/vmlinuz root=UUID=a ro\n").unwrap();
        let adoption = Adoption {
            descriptor: Descriptor::new("first".parse().unwrap(), None),
            environment: BootEnvironment::empty(Path::new("/dev/lifeboat-none1")),
            root: root.path().into(),
        };
        let (host, inventory) = (firmware.host(), Inventory::default());
        std::fs::create_dir_all(host.program().parent().unwrap()).unwrap();
        std::fs::write(host.program(), "this program").unwrap();
        let loader = loader::for_environment(&host, &inventory, &adoption.environment).unwrap();
        let steps = adoption.steps(&*loader, false).unwrap();
        let lines = step::lines(&steps);
        assert!(lines[0].contains("adopt the running system as 'first'"), "{lines:?}");
        assert!(lines[1].contains("lifeboat-confirm.service"), "{lines:?}");
        let (mut state, mut recorder) = (adoption.begin(&host, &inventory), Recorder::default());
        step::run_all(&steps, &mut state, &mut recorder).unwrap();
        assert_eq!(recorder.steps, lines);
        assert!(std::fs::read_to_string(menu).unwrap().contains("panic=30"));
        let written = Descriptor::load(&RootDir::open(root.path()).unwrap()).unwrap().unwrap();
        assert_eq!(written, state.descriptor);
        assert_eq!(written.state, environment::State::Complete);
    }

    #[test]
    fn an_interrupted_adoption_is_due_again_and_an_interrupted_copy_is_not() {
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
