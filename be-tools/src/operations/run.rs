//! `be run`: mounts a BE with all its file systems in a private namespace, and runs a command in
//! it. While the command changes it, the BE is incomplete.

use std::ffi::{OsStr, OsString};
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use super::write_descriptor::hold;
use crate::discover;
use crate::environment::mounted::{self, MountMode, MountScope, MountedEnvironment};
use crate::environment::{BootEnvironment, Descriptor, Inventory, Operation};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::{self, Loader};
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::sandbox::Inside;
use crate::session::lock::Lock;
use crate::step;
use crate::storage::namespace;
use crate::tool::ToolError;

/// A command to run in a BE.
#[derive(Clone, Copy, Debug)]
pub struct RunRequest<'a> {
    /// What names the BE.
    pub reference: &'a str,
    /// Whether the command may change the running system too.
    pub privileged: bool,
    /// Whether it has the network of the running system.
    pub network: bool,
    /// Mount points on other disks than the root that it may write to.
    pub writable: &'a [PathBuf],
    /// The command and its arguments.
    pub command: &'a [OsString],
}

/// Runs a command in a BE, and returns its exit status as env(1) does. `None` if the report stopped
/// after the plan.
///
/// # Errors
/// The BE is running, another operation left it incomplete, or it cannot be mounted
/// ([`mounted::refuse`]).
pub fn in_environment(
    host: &Host,
    request: RunRequest<'_>,
    report: &mut dyn Report,
) -> Result<Option<u8>> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(request.reference)?;
    refuse(environment)?;
    mounted::refuse(&inventory, environment, MountScope::Own, MountMode::ForCommands)?;
    let entry = own_entry(host, &inventory, environment)?;
    let holds = hold(host, &inventory, environment.own_devices())?;
    let steps = steps(environment, entry, request.command);
    let plan = Plan {
        title: format!("Run a command in '{}'", environment.name()),
        steps: step::lines(&steps),
        notes: notes(request),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(None);
    }
    holds.refuse_changed()?;
    plan.notes.iter().for_each(|note| report.warn(note));
    if let Some(note) = environment.trial_called_off().filter(|_| entry.is_some()) {
        report.warn(&note);
    }
    namespace::enter_private_namespace()?;
    let mut state = State {
        host,
        inventory: &inventory,
        environment,
        request,
        lock: &lock,
        descriptor: environment.descriptor.clone(),
        mounted: None,
        progress: Progress::Nothing,
    };
    step::run_all(&steps, &mut state, report)?;
    match state.progress {
        Progress::Ended(status) => Ok(Some(status)),
        _ => Ok(None),
    }
}

/// Programs that download packages.
const PACKAGE_MANAGERS: [&str; 9] =
    ["apk", "apt", "apt-get", "aptitude", "dnf", "pacman", "xbps-install", "yum", "zypper"];

/// What `--privileged` opens, and that a package manager has no network. `apt-get update` would
/// only say so, and succeed.
fn notes(request: RunRequest<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    if request.privileged {
        notes.push(
            "--privileged: the command can change the running system and its disks. It has all \
            capabilities and system calls, can load kernel modules and set the clock, mount, and \
            write to the disks that the boot environment lies on"
                .into(),
        );
    }
    let program = request.command.first().and_then(|program| Path::new(program).file_name());
    let program = program.and_then(OsStr::to_str).unwrap_or_default();
    if !request.network && PACKAGE_MANAGERS.contains(&program) {
        notes.push(format!(
            "{program} has no network: `be run --network` gives it that of the running system"
        ));
    }
    notes
}

/// The boot entry that is inactive while the command runs, if the machine has another one that it
/// could start. That of a block copy may be its original's.
fn own_entry(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Result<Option<u16>> {
    if !environment.is_managed() || inventory.twin_of(environment).is_some() {
        return Ok(None);
    }
    let loader = loader::for_environment(host, inventory, environment)?;
    match loader.prove_removal() {
        Ok(()) => loader.state().map(|state| state.entry),
        Err(Error::Refused(Refusal::OnlyBootable { .. })) => Ok(None),
        Err(why) => Err(why),
    }
}

fn steps<'a>(
    environment: &'a BootEnvironment,
    entry: Option<u16>,
    command: &'a [OsString],
) -> Vec<Step<'a>> {
    let name = environment.name();
    let managed = environment.is_managed().then_some(name);
    let mut steps: Vec<Step> = managed.map(Step::Begin).into_iter().collect();
    steps.extend(entry.map(Step::MakeInactive));
    steps.extend([Step::Mount(name), Step::Run(command), Step::Unmount(name)]);
    steps.extend(managed.map(Step::Complete));
    steps.extend(entry.map(Step::MakeActive));
    steps
}

#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Begin(&'a str),
    MakeInactive(u16),
    Mount(&'a str),
    Run(&'a [OsString]),
    Unmount(&'a str),
    Complete(&'a str),
    MakeActive(u16),
}

/// How far the operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Nothing,
    /// The BE is marked as incomplete, and the command has not been started.
    Begun,
    /// The command is changing the BE, or was killed while it did.
    Started,
    /// The command has ended by itself, with this exit status.
    Ended(u8),
}

/// What the steps share.
struct State<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    request: RunRequest<'a>,
    lock: &'a Lock,
    descriptor: Option<Descriptor>,
    mounted: Option<MountedEnvironment>,
    progress: Progress,
}

impl<'a> State<'a> {
    fn loader(&self) -> Result<Box<dyn Loader + 'a>> {
        loader::for_environment(self.host, self.inventory, self.environment)
    }

    /// Changes the descriptor, with nothing of the BE mounted but its root.
    fn change(
        &mut self,
        change: impl FnOnce(&mut Descriptor, &RootDir) -> Result<()>,
    ) -> Result<()> {
        let Some(descriptor) = &mut self.descriptor else { return Ok(()) };
        let mode = MountMode::ReadWrite;
        let mounted =
            MountedEnvironment::mount_root(self.host, self.inventory, self.environment, mode)?;
        let root = RootDir::open(mounted.root())?;
        descriptor.refuse_other(&root, &self.environment.root.device)?;
        change(descriptor, &root)?;
        drop(root);
        mounted.unmount()
    }

    fn mount(&mut self, report: &mut dyn Report) -> Result<()> {
        let State { host, inventory, environment, request, .. } = *self;
        let writable = request.writable;
        let mounted =
            MountedEnvironment::mount_for_command(host, inventory, environment, writable)?;
        mounted.warnings().iter().for_each(|warning| report.warn(warning));
        self.mounted = Some(mounted);
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        let Some(mounted) = &self.mounted else { return Ok(()) };
        let RunRequest { privileged, network, command, .. } = self.request;
        let devices = block_devices(self.inventory, self.environment);
        let shared = shared_directories(self.environment, &RootDir::open(mounted.root())?)?;
        let inside = Inside {
            shared: &shared,
            privileged,
            network,
            interactive: true,
            ..Inside::new(mounted.root(), &devices)
        };
        let before = std::mem::replace(&mut self.progress, Progress::Started);
        match self.lock.without_boot_lock(|| inside.run(command))? {
            Ok(status) => {
                log::info!("the command ended with status {status}");
                self.progress = Progress::Ended(status);
                Ok(())
            }
            Err(killed @ (Error::Interrupted | Error::Tool(ToolError::Killed { .. }))) => {
                Err(killed)
            }
            Err(not_started) => {
                self.progress = before;
                Err(not_started)
            }
        }
    }

    fn unmount(&mut self) -> Result<()> {
        let Some(mounted) = self.mounted.take() else { return Ok(()) };
        mounted.sync()?;
        mounted.unmount()
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Begin(name) => write!(f, "mark '{name}' as incomplete (run)"),
            Step::MakeInactive(number) => {
                write!(f, "make its boot entry Boot{number:04X} inactive")
            }
            Step::Mount(name) => write!(f, "mount the file systems of '{name}'"),
            Step::Run(command) => write!(f, "run {}", command.join(OsStr::new(" ")).display()),
            Step::Unmount(name) => write!(f, "sync and unmount the file systems of '{name}'"),
            Step::Complete(name) => write!(f, "mark '{name}' as complete"),
            Step::MakeActive(number) => write!(f, "make its boot entry Boot{number:04X} active"),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        match self {
            Step::Begin(_) => {
                state.change(|descriptor, root| descriptor.begin(Operation::Run, root))?;
                state.progress = Progress::Begun;
                Ok(())
            }
            Step::MakeInactive(_) => state.loader()?.set_listed(false),
            Step::Mount(_) => state.mount(report),
            Step::Run(_) => state.run(),
            Step::Unmount(_) => state.unmount(),
            Step::Complete(_) => state.change(Descriptor::complete_as_it_is),
            Step::MakeActive(_) => state.loader()?.set_listed(true),
        }
    }

    /// A BE that the command has not changed is complete again.
    fn is_due_after_failure(&self, state: &State) -> bool {
        let ends = matches!(self, Step::Unmount(_) | Step::Complete(_) | Step::MakeActive(_));
        ends && state.progress == Progress::Begun
    }

    /// Once the command has ended by itself, the BE is complete again, although Ctrl-C ended it.
    fn completes_previous(&self) -> bool {
        matches!(self, Step::Unmount(_) | Step::Complete(_) | Step::MakeActive(_))
    }
}

fn refuse(environment: &BootEnvironment) -> Result<()> {
    if environment.running {
        return Err(Refusal::Running {
            name: environment.name().into(),
            way_out: "run the command without `be run`".into(),
        }
        .into());
    }
    match &environment.descriptor {
        // The command that was interrupted can be run again, or another one that puts it right.
        Some(descriptor) if descriptor.operation != Some(Operation::Run) => {
            descriptor.refuse_incomplete().map_err(Error::from)
        }
        _ => Ok(()),
    }
}

/// Directories that the sandbox replaces, whatever the BE's fstab mounts there.
const COVERED: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// The mount points of shared file systems that are directories of the BE. Swap spaces have none.
fn shared_directories(environment: &BootEnvironment, root: &RootDir) -> Result<Vec<PathBuf>> {
    let is_below = |place: &Path| place.is_absolute() && place != Path::new("/");
    let is_covered = |place: &Path| COVERED.iter().any(|covered| place.starts_with(covered));
    let shared = environment.file_systems.iter().filter(|f| f.shared && f.fs_type != "swap");
    let mut directories = Vec::new();
    for place in shared.map(|f| &f.mountpoint).filter(|place| is_below(place) && !is_covered(place))
    {
        if root.directory(place)?.is_some() {
            directories.push(place.clone());
        }
    }
    Ok(directories)
}

/// The BE's own devices, with the UUIDs by which its programs find them.
fn block_devices(
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Vec<(PathBuf, Option<String>)> {
    let own = environment.own_devices().into_iter();
    own.map(|node| (node.clone(), inventory.devices.uuid_on(node))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::FileSystemUse;
    use crate::loader::testing::{Firmware, environment};

    #[test]
    fn a_boot_environment_is_incomplete_and_not_listed_while_a_command_changes_it() {
        let mut environment = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        let command = [OsString::from("apt-get"), "upgrade".into()];
        let lines = |environment: &BootEnvironment, entry| {
            step::lines(&steps(environment, entry, &command))
        };
        let name = "@/dev/lifeboat-none1";
        assert_eq!(
            lines(&environment, None),
            [
                &format!("mount the file systems of '{name}'"),
                "run apt-get upgrade",
                &format!("sync and unmount the file systems of '{name}'"),
            ]
        );
        environment.descriptor = Some(Descriptor::new("second".parse().unwrap(), None));
        assert_eq!(
            lines(&environment, Some(0xa)),
            [
                "mark 'second' as incomplete (run)",
                "make its boot entry Boot000A inactive",
                "mount the file systems of 'second'",
                "run apt-get upgrade",
                "sync and unmount the file systems of 'second'",
                "mark 'second' as complete",
                "make its boot entry Boot000A active",
            ]
        );
    }

    #[test]
    fn a_boot_entry_stays_active_if_it_is_anothers_or_the_only_one_that_starts() {
        let (firmware, second) = (Firmware::new(), environment("second", "aaaa-02").complete());
        let id = second.descriptor.as_ref().unwrap().id.short();
        let file = format!(r"\EFI\lifeboat\{id}\grubx64.efi");
        let number = firmware.add("Lifeboat: second", &file);
        let mut inventory =
            Inventory { environments: vec![second.clone()], ..Inventory::default() };
        let entry = |inventory: &Inventory, environment: &BootEnvironment| {
            own_entry(&firmware.host(), inventory, environment).unwrap()
        };
        assert_eq!(entry(&inventory, &second), None, "something always boots");
        firmware.add("debian", r"\EFI\debian\shimx64.efi");
        assert_eq!(entry(&inventory, &second), Some(number));
        assert_eq!(entry(&inventory, &environment("stick", "aaaa-03")), None, "unmanaged");
        let mut twin = second.clone();
        twin.root.device = "/dev/lifeboat-none2".into();
        inventory.environments.push(twin);
        assert_eq!(entry(&inventory, &second), None, "which of the two it starts is not known");
    }

    #[test]
    fn a_package_manager_without_network_and_privileges_are_announced() {
        let announced = |command: &[&str], privileged, network| {
            let command: Vec<OsString> = command.iter().map(OsString::from).collect();
            notes(RunRequest {
                reference: "second",
                privileged,
                network,
                writable: &[],
                command: &command,
            })
            .len()
        };
        for (command, privileged, network, expected) in [
            (&["apt-get", "update"][..], false, false, 1),
            (&["/usr/bin/apt", "update"], false, false, 1),
            (&["apt-get", "update"], false, true, 0),
            (&["dpkg", "-i", "apt"], false, false, 0),
            (&["true"], true, false, 1),
            (&["apt", "update"], true, false, 2),
        ] {
            assert_eq!(announced(command, privileged, network), expected, "{command:?}");
        }
    }

    #[test]
    fn a_command_can_be_run_again_in_what_an_interrupted_one_left() {
        let mut environment = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        for (operation, is_refused) in [
            (Some(Operation::Run), false),
            (Some(Operation::Refresh), true),
            (Some(Operation::Create), true),
            (None, true),
        ] {
            descriptor.operation = operation;
            environment.descriptor = Some(descriptor.clone());
            assert_eq!(refuse(&environment).is_err(), is_refused, "{operation:?}");
        }
    }

    #[test]
    fn only_shared_mount_points_that_are_directories_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        for directory in ["home", "tmp", "swap"] {
            std::fs::create_dir(dir.path().join(directory)).unwrap();
        }
        let mut environment = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        let lines = [
            ("none", "swap"),
            ("swap", "swap"),
            ("/swap", "swap"),
            ("/", "ext4"),
            ("/home", "ext4"),
            ("home", "ext4"),
            ("/gone", "ext4"),
            ("/tmp", "ext4"),
        ];
        environment.file_systems = lines
            .map(|(mountpoint, fs_type)| FileSystemUse {
                device: None,
                fs_type: fs_type.into(),
                shared: true,
                ..FileSystemUse::example(mountpoint, "")
            })
            .into();
        let root = RootDir::open(dir.path()).unwrap();
        assert_eq!(shared_directories(&environment, &root).unwrap(), [Path::new("/home")]);
        environment.file_systems.iter_mut().for_each(|f| f.shared = false);
        assert!(shared_directories(&environment, &root).unwrap().is_empty());
    }
}
