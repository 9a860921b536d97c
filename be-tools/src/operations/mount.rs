//! `be mount` and `be umount`: a BE mounted until it is unmounted again.

use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::discover::discover;
use crate::environment::mounted::{
    MountMode, MountScope, MountedEnvironment, Nested, NestedMount, Wanted, nested,
};
use crate::environment::{BootEnvironment, Inventory};
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::operations::in_place;
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::session::lock::{InProgress, Lock};
use crate::step;
use crate::storage::mounts::unmount_all;

/// Where BEs are mounted if no directory is named, below `/run`.
const PLACE: &str = "lifeboat/mnt";

/// Mounts a BE on `dir`, or on `/run/lifeboat/mnt/NAME`, until it is unmounted again. Returns the
/// directory, or `None` if the report stopped after the plan.
///
/// # Errors
/// The BE is running or already mounted, `dir` is `/` or not a directory, a file system cannot be
/// mounted, and those of [`nested`].
pub fn mount(
    host: &Host,
    reference: &str,
    dir: Option<&Path>,
    mode: MountMode,
    writable: &[PathBuf],
    report: &mut dyn Report,
) -> Result<Option<PathBuf>> {
    let lock = Lock::acquire(host)?;
    let inventory = discover(host)?;
    let environment = inventory.find(reference)?;
    lock.note(InProgress::on("mount", environment));
    environment.refuse_running("its files are below /")?;
    environment.refuse_mounted()?;
    let own = host.run.join(PLACE).join(environment.reference.replace('/', "-"));
    let dir = match dir {
        Some(dir) => dir.canonicalize().at("finding the directory", dir)?,
        None => own.clone(),
    };
    if dir != own && !dir.is_dir() {
        return Err(Error::Usage(format!(
            "{} is not a directory: name a directory to mount on",
            dir.display()
        )));
    }
    if dir == Path::new("/") {
        return Err(Refusal::MountOnRoot.into());
    }
    in_place::refuse_unknown(environment, writable)?;
    let is_for_programs = mode == MountMode::ForCommands;
    let wanted = Wanted { is_for_programs, writable, ..Wanted::new(MountScope::All, mode) };
    let Nested { mounts, left_out } = nested(&inventory, environment, wanted)?;
    let mut steps: Vec<_> = (dir == own).then_some(Step::Make(&dir)).into_iter().collect();
    steps.push(Step::MountRoot { device: &environment.root.device, dir: &dir });
    for mount in &mounts {
        let place = mount.file_system.mountpoint.strip_prefix("/").unwrap_or(Path::new(""));
        steps.push(Step::MountNested { mount, place: dir.join(place) });
    }
    let warnings = mounts.iter().filter_map(|mount| mount.warning.clone());
    let how = match mode {
        MountMode::ReadOnly => "read-only",
        MountMode::ReadWrite => "for writing",
        MountMode::ForCommands => "for writing, with its set-user-ID programs and device nodes",
    };
    let plan = Plan {
        title: format!("Mount '{}' {how}", environment.name()),
        steps: step::lines(&steps),
        notes: left_out.into_iter().chain(warnings).collect(),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(None);
    }
    let mut state = State { host, inventory: &inventory, environment, mode, mounted: None };
    let done = step::run_all(&steps, &mut state, report);
    let mounted = state.mounted;
    if let Err(error) = done {
        drop(mounted);
        if dir == own {
            // The directory is empty, unless a file system is still mounted on it.
            let _ = std::fs::remove_dir(&dir);
        }
        return Err(error);
    }
    let warnings = mounted.iter().flat_map(MountedEnvironment::warnings);
    plan.notes.iter().chain(warnings).for_each(|warning| report.warn(warning));
    Ok(mounted.map(MountedEnvironment::into_persistent))
}

/// A step of mounting a BE.
#[derive(Debug)]
enum Step<'a> {
    Make(&'a Path),
    MountRoot { device: &'a Path, dir: &'a Path },
    MountNested { mount: &'a NestedMount<'a>, place: PathBuf },
}

/// What the steps share.
struct State<'a> {
    host: &'a Host,
    inventory: &'a Inventory,
    environment: &'a BootEnvironment,
    mode: MountMode,
    /// The file systems mounted so far. They are unmounted if a step fails.
    mounted: Option<MountedEnvironment>,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Make(dir) => write!(f, "make the directory {}", dir.display()),
            Step::MountRoot { device, dir } => {
                write!(f, "mount {} on {}", device.display(), dir.display())
            }
            Step::MountNested { mount, place } => {
                write!(f, "mount {} on {}", mount.file_system.spec, place.display())
            }
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        let State { host, inventory, environment, mode, .. } = *state;
        match self {
            Step::Make(dir) => {
                let name = dir.file_name().unwrap_or_default().to_string_lossy();
                host.work_directory(&format!("mnt/{name}"))?;
            }
            Step::MountRoot { dir, .. } => {
                let dir = dir.to_path_buf();
                let mounted =
                    MountedEnvironment::mount_root_on(host, inventory, environment, dir, mode)?;
                // One that cannot be written to can still be looked at and repaired.
                if mode != MountMode::ReadOnly
                    && let Err(why) = note_changed(environment, mounted.root())
                {
                    report.warn(&format!("its descriptor does not say that it was changed: {why}"));
                }
                state.mounted = Some(mounted);
            }
            Step::MountNested { mount, .. } => {
                if let Some(mounted) = &mut state.mounted {
                    mounted.mount_nested(host, inventory, mount)?;
                }
            }
        }
        Ok(())
    }
}

/// Notes that a BE, whose root is mounted, is changed by hand.
fn note_changed(environment: &BootEnvironment, root: &Path) -> Result<()> {
    let Some(descriptor) = &environment.descriptor else { return Ok(()) };
    let root = RootDir::open(root)?;
    descriptor.refuse_other(&root, &environment.root.device)?;
    descriptor.clone().note_changed(&root)
}

/// Unmounts a BE that [`mount`] mounted. `be_or_dir` is its name or the directory.
///
/// # Errors
/// The BE is not mounted, is running, or is in use.
pub fn umount(host: &Host, be_or_dir: &str, report: &mut dyn Report) -> Result<()> {
    let lock = Lock::acquire(host)?;
    let inventory = discover(host)?;
    let dir = Path::new(be_or_dir).canonicalize().ok();
    let at_dir = dir.filter(|_| be_or_dir.contains('/')).and_then(|dir| {
        let environment = inventory.environments.iter().find(|e| e.mounted_at.contains(&dir))?;
        Some((environment, dir))
    });
    let (environment, dir) = match at_dir {
        Some(found) => found,
        None if be_or_dir.starts_with('/') => {
            return Err(Error::Usage(format!(
                "no boot environment is mounted on {be_or_dir}: `be list --json` shows which are \
                mounted"
            )));
        }
        None => {
            let environment = inventory.find(be_or_dir)?;
            let dir =
                environment.mounted_at.last().cloned().ok_or_else(|| {
                    Error::Usage(format!("'{}' is not mounted", environment.name()))
                })?;
            (environment, dir)
        }
    };
    lock.note(InProgress::on("umount", environment));
    if environment.running || dir == Path::new("/") {
        let way_out = "boot another one first".into();
        return Err(Refusal::Running { name: environment.name().into(), way_out }.into());
    }
    let is_ours = dir.starts_with(host.run.join(PLACE));
    let mut steps = vec![UnmountStep::Unmount(&dir)];
    steps.extend(is_ours.then_some(UnmountStep::Remove(&dir)));
    let plan = Plan {
        title: format!("Unmount '{}'", environment.name()),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(());
    }
    step::run_all(&steps, &mut host.clone(), report)
}

/// A step of unmounting a BE.
#[derive(Debug)]
enum UnmountStep<'a> {
    Unmount(&'a Path),
    /// Removes the directory that was made to mount the BE on.
    Remove(&'a Path),
}

impl Display for UnmountStep<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            UnmountStep::Unmount(dir) => {
                write!(f, "unmount {} and what is mounted below it", dir.display())
            }
            UnmountStep::Remove(dir) => write!(f, "remove the directory {}", dir.display()),
        }
    }
}

impl step::Step<Host> for UnmountStep<'_> {
    fn run(&self, host: &mut Host, _: &mut dyn Report) -> Result<()> {
        match self {
            UnmountStep::Unmount(dir) => unmount_all(host, dir),
            UnmountStep::Remove(dir) => std::fs::remove_dir(dir).at("removing the directory", dir),
        }
    }
}
