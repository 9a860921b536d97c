//! `be run`: mounts a BE with all its file systems in a private namespace, and runs a command in
//! it.

use std::ffi::{OsStr, OsString};
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::discover;
use crate::environment::BootEnvironment;
use crate::environment::Inventory;
use crate::environment::mounted::{self, MountMode, MountScope, MountedEnvironment};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::sandbox::Inside;
use crate::session::lock::Lock;
use crate::step;
use crate::storage::namespace;

/// Runs a command in the BE that `reference` names, and returns its exit status as env(1) does.
/// `None` if the report stopped after the plan.
///
/// # Errors
/// The BE is running, is incomplete, or cannot be mounted ([`mounted::refuse`]).
pub fn in_environment(
    host: &Host,
    reference: &str,
    privileged: bool,
    command: &[OsString],
    report: &mut dyn Report,
) -> Result<Option<u8>> {
    let _lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    refuse(environment)?;
    mounted::refuse(&inventory, environment, MountScope::Own, MountMode::ForCommands)?;
    let steps = [Step::Mount(environment.name()), Step::Run(command)];
    let privileges = if privileged { ", privileged" } else { "" };
    let plan = Plan {
        title: format!("Run a command in '{}'{privileges}", environment.name()),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    if !report.confirm(&plan)? {
        return Ok(None);
    }
    namespace::enter_private_namespace()?;
    let mut state =
        State { host, inventory: &inventory, environment, privileged, mounted: None, status: None };
    step::run_all(&steps, &mut state, report)?;
    Ok(state.status)
}

enum Step<'a> {
    Mount(&'a str),
    Run(&'a [OsString]),
}

/// What the steps share.
struct State<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    privileged: bool,
    mounted: Option<MountedEnvironment>,
    /// The exit status of the command.
    status: Option<u8>,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Mount(name) => write!(f, "mount the file systems of '{name}'"),
            Step::Run(command) => write!(f, "run {}", command.join(OsStr::new(" ")).display()),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        let State { host, inventory, environment, privileged, .. } = *state;
        let command = match self {
            Step::Mount(_) => {
                let mode = MountMode::ForCommands;
                let mounted = MountedEnvironment::mount_system(host, inventory, environment, mode)?;
                mounted.warnings().iter().for_each(|warning| report.warn(warning));
                state.mounted = Some(mounted);
                return Ok(());
            }
            Step::Run(command) => command,
        };
        let Some(mounted) = &state.mounted else { return Ok(()) };
        let devices = block_devices(inventory, environment);
        let shared = shared_directories(environment, &RootDir::open(mounted.root())?)?;
        let inside = Inside {
            root: mounted.root(),
            block_devices: &devices,
            esp: None,
            shared: &shared,
            privileged,
            interactive: true,
        };
        let status = inside.run(command)?;
        let message = format!("the command ended with status {status}");
        log::info!("{message}");
        state.status = Some(u8::try_from(status).map_err(|_| Error::Failed(message))?);
        Ok(())
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
    environment.descriptor.as_ref().map_or(Ok(()), |d| d.refuse_incomplete())?;
    Ok(())
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
                mountpoint: mountpoint.into(),
                spec: String::new(),
                device: None,
                fs_type: fs_type.into(),
                options: "defaults".into(),
                size: None,
                shared: true,
            })
            .into();
        let root = RootDir::open(dir.path()).unwrap();
        assert_eq!(shared_directories(&environment, &root).unwrap(), [Path::new("/home")]);
        environment.file_systems.iter_mut().for_each(|f| f.shared = false);
        assert!(shared_directories(&environment, &root).unwrap().is_empty());
    }
}
