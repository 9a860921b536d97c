//! A BE that is changed where it lies, by commands that run inside it. While they do, it is
//! incomplete, and no boot entry starts it.

use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use crate::environment::mounted::{MountMode, MountedEnvironment};
use crate::environment::{
    BootEnvironment, Descriptor, Inventory, OperatingSystem, Operation, manifest,
};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::loader::firmware::lines;
use crate::loader::{self, Loader};
use crate::plan::Report;
use crate::root_dir::RootDir;
use crate::sandbox::Inside;
use crate::session::lock::Lock;

/// A step before the commands, or after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame<'a> {
    Begin(&'a str, Operation),
    MakeInactive,
    Mount(&'a str),
    Record(&'a str),
    Unmount(&'a str),
    Complete(&'a str),
    MakeActive,
}

/// The steps around the commands.
#[derive(Debug)]
pub(super) struct Frames<'a> {
    pub(super) before: Vec<Frame<'a>>,
    pub(super) after: Vec<Frame<'a>>,
    /// Whether the BE is incomplete afterwards, since an upgrade was interrupted in it.
    pub(super) stays_incomplete: bool,
}

impl<'a> Frames<'a> {
    /// Whether it has a boot entry is what [`own_entry`] says.
    pub(super) fn new(
        environment: &'a BootEnvironment,
        has_entry: bool,
        operation: Operation,
    ) -> Self {
        let name = environment.name();
        let interrupted = environment.descriptor.as_ref().and_then(|d| d.operation);
        // Only another upgrade knows whether the packages are whole again.
        let stays_incomplete =
            interrupted == Some(Operation::Upgrade) && operation != Operation::Upgrade;
        let is_marked = environment.is_managed() && !stays_incomplete;
        let has_entry = has_entry && !stays_incomplete;
        let mut before: Vec<Frame> = Vec::new();
        before.extend(is_marked.then_some(Frame::Begin(name, operation)));
        before.extend(has_entry.then_some(Frame::MakeInactive));
        before.push(Frame::Mount(name));
        let mut after: Vec<Frame> = Vec::new();
        after.extend(is_marked.then_some(Frame::Record(name)));
        after.push(Frame::Unmount(name));
        after.extend(is_marked.then_some(Frame::Complete(name)));
        after.extend(has_entry.then_some(Frame::MakeActive));
        Frames { before, after, stays_incomplete }
    }
}

/// How far the operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    Nothing,
    /// The BE is marked as incomplete, and nothing else in it has been changed.
    Begun,
    /// A command is changing the BE, or was killed while it did.
    Started,
    /// The last command has ended by itself.
    Ended,
}

/// A BE that is being changed, as the steps share it.
pub(super) struct InPlace<'a> {
    pub(super) host: &'a Host,
    pub(super) inventory: &'a Inventory,
    pub(super) environment: &'a BootEnvironment,
    pub(super) lock: &'a Lock,
    /// Mount points, not of its own disk or shared with other BEs, that the commands may write to.
    writable: &'a [PathBuf],
    descriptor: Option<Descriptor>,
    mounted: Option<MountedEnvironment>,
    /// What it has become, as its os-release(5) says once the commands have ended.
    os: Option<OperatingSystem>,
    pub(super) progress: Progress,
}

impl<'a> InPlace<'a> {
    pub(super) fn new(
        host: &'a Host,
        inventory: &'a Inventory,
        environment: &'a BootEnvironment,
        lock: &'a Lock,
        writable: &'a [PathBuf],
    ) -> Self {
        InPlace {
            host,
            inventory,
            environment,
            lock,
            writable,
            descriptor: environment.descriptor.clone(),
            mounted: None,
            os: None,
            progress: Progress::Nothing,
        }
    }

    fn loader(&self) -> Result<Box<dyn Loader + 'a>> {
        loader::for_environment(self.host, self.inventory, self.environment)
    }

    /// Lets its boot entry start it again. If it has become another release, the entry says so.
    fn make_active(&self) -> Result<()> {
        let loader = self.loader()?;
        loader.set_listed(true)?;
        let Some(os) = self.os.as_ref().filter(|os| **os != self.environment.os) else {
            return Ok(());
        };
        let descriptor = self.environment.descriptor.as_ref();
        descriptor.map_or(Ok(()), |d| loader::set_description(self.host, d, os))
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
        let InPlace { host, inventory, environment, writable, .. } = *self;
        let mode = MountMode::ForCommands;
        let mounted =
            MountedEnvironment::mount_for_commands(host, inventory, environment, mode, writable)?;
        mounted.warnings().iter().for_each(|warning| report.warn(warning));
        self.mounted = Some(mounted);
        Ok(())
    }

    /// Writes the manifest of what the commands have left.
    fn record(&self, report: &mut dyn Report) -> Result<()> {
        let mounted = self.mounted()?;
        // What others have too is not part of it.
        let is_shared = |place: &PathBuf| {
            self.environment.file_systems.iter().any(|f| f.shared && f.mountpoint == *place)
        };
        let others: Vec<PathBuf> =
            self.writable.iter().filter(|place| is_shared(place)).cloned().collect();
        let rules = manifest::rules(self.environment.swap_files(), &others);
        let began = self.descriptor.as_ref().and_then(|descriptor| descriptor.began);
        let renew = || manifest::renew(mounted.root(), &rules, began, report);
        let renewed = self.lock.without_boot_lock(renew)?;
        match renewed {
            // The commands have ended, and what they left is complete.
            Err(Error::Interrupted) => {
                report.warn(
                    "interrupted: the manifest is that of before, so that `be verify` names what \
                    was changed now",
                );
                Ok(())
            }
            renewed => renewed,
        }
    }

    fn unmount(&mut self) -> Result<()> {
        let Some(mounted) = self.mounted.take() else { return Ok(()) };
        self.os = OperatingSystem::of(&RootDir::open(mounted.root())?);
        mounted.sync()?;
        mounted.unmount()
    }

    /// The root of the mounted BE.
    ///
    /// # Errors
    /// It is not mounted.
    pub(super) fn root(&self) -> Result<RootDir> {
        self.mounted().and_then(|mounted| RootDir::open(mounted.root()))
    }

    fn mounted(&self) -> Result<&MountedEnvironment> {
        let not_mounted = || Error::Failed("the boot environment is not mounted".into());
        self.mounted.as_ref().ok_or_else(not_mounted)
    }

    /// Runs a command in the BE. Meanwhile, a trial can be confirmed.
    ///
    /// # Errors
    /// Those of `run`, and of what it needs. A command that could not be started has changed nothing.
    pub(super) fn run<T>(&mut self, run: impl FnOnce(Inside<'_>) -> Result<T>) -> Result<T> {
        let mounted = self.mounted()?;
        let devices = block_devices(self.inventory, self.environment);
        let root = RootDir::open(mounted.root())?;
        let shared = shared_directories(self.environment, &root, self.writable)?;
        let inside = Inside { shared: &shared, ..Inside::new(mounted.root(), &devices) };
        let lock = self.lock;
        lock.without_boot_lock(|| run(inside))?
    }

    /// Whether the BE is as it was before the operation, so that a failure can leave it complete.
    fn is_unchanged(&self) -> bool {
        let was_complete =
            self.environment.descriptor.as_ref().is_none_or(|d| d.refuse_incomplete().is_ok());
        self.progress == Progress::Begun && was_complete
    }
}

impl Display for Frame<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Frame::Begin(name, operation) => write!(f, "mark '{name}' as incomplete ({operation})"),
            Frame::MakeInactive => f.write_str(lines::MAKE_INACTIVE),
            Frame::Mount(name) => write!(f, "mount the file systems of '{name}'"),
            Frame::Record(name) => write!(f, "write the manifest of '{name}'"),
            Frame::Unmount(name) => write!(f, "sync and unmount the file systems of '{name}'"),
            Frame::Complete(name) => write!(f, "mark '{name}' as complete"),
            Frame::MakeActive => f.write_str(lines::MAKE_ACTIVE),
        }
    }
}

impl Frame<'_> {
    pub(super) fn run(&self, state: &mut InPlace, report: &mut dyn Report) -> Result<()> {
        match self {
            Frame::Begin(_, operation) => {
                state.change(|descriptor, root| descriptor.begin(*operation, root))?;
                state.progress = Progress::Begun;
                Ok(())
            }
            Frame::MakeInactive => state.loader()?.set_listed(false),
            Frame::Mount(_) => state.mount(report),
            Frame::Record(_) if state.is_unchanged() => Ok(()),
            Frame::Record(_) => state.record(report),
            Frame::Unmount(_) => state.unmount(),
            Frame::Complete(_) if state.is_unchanged() => state.change(Descriptor::withdraw),
            Frame::Complete(_) => state.change(Descriptor::complete_as_it_is),
            Frame::MakeActive => state.make_active(),
        }
    }

    /// A BE that no command has changed is complete again, if it was before.
    pub(super) fn is_due_after_failure(&self, state: &InPlace) -> bool {
        self.is_after() && state.is_unchanged()
    }

    /// Whether it comes after the commands. Once they have ended by themselves, the BE is complete
    /// again, although Ctrl-C ended them.
    pub(super) fn is_after(&self) -> bool {
        matches!(
            self,
            Frame::Record(_) | Frame::Unmount(_) | Frame::Complete(_) | Frame::MakeActive
        )
    }
}

/// The boot entry that is inactive while commands run, if the machine has another one that it could
/// start. That of a block copy may be its original's.
///
/// # Errors
/// The boot entries cannot be read.
pub(super) fn own_entry(
    host: &Host,
    inventory: &Inventory,
    environment: &BootEnvironment,
) -> Result<Option<u16>> {
    if !environment.is_managed() || inventory.twin_of(environment).is_some() {
        return Ok(None);
    }
    let loader = loader::for_environment(host, inventory, environment)?;
    match loader.prove_another_boots(&[]) {
        Ok(()) => loader.state().map(|state| state.entry),
        Err(Error::Refused(Refusal::OnlyBootable { .. })) => Ok(None),
        Err(why) => Err(why),
    }
}

/// Refuses a BE that runs, or that an operation of another kind left incomplete, and mount points
/// that its fstab does not have.
///
/// # Errors
/// [`Refusal::Running`], [`Refusal::Incomplete`], [`Error::Usage`].
pub(super) fn refuse(
    environment: &BootEnvironment,
    way_out: &str,
    writable: &[PathBuf],
) -> Result<()> {
    environment.refuse_running(way_out)?;
    refuse_unknown(environment, writable)?;
    match &environment.descriptor {
        // What was interrupted can be run again, or another command that puts it right.
        Some(descriptor)
            if matches!(
                descriptor.operation,
                Some(Operation::Run | Operation::Upgrade | Operation::Repair)
            ) =>
        {
            Ok(())
        }
        Some(descriptor) => descriptor.refuse_incomplete().map_err(Error::from),
        None => Ok(()),
    }
}

/// Refuses mount points that the fstab does not have.
///
/// # Errors
/// [`Error::Usage`].
pub(super) fn refuse_unknown(environment: &BootEnvironment, places: &[PathBuf]) -> Result<()> {
    let is_there =
        |place: &PathBuf| environment.file_systems.iter().any(|f| f.mountpoint == *place);
    match places.iter().find(|place| !is_there(place)) {
        None => Ok(()),
        Some(place) => Err(Error::Usage(format!(
            "the fstab of '{}' has no file system on {}: `be filesystems {}` shows what it has",
            environment.name(),
            place.display(),
            environment.reference
        ))),
    }
}

/// Directories that the sandbox replaces, whatever the BE's fstab mounts there.
const COVERED: [&str; 5] = ["/dev", "/proc", "/run", "/sys", "/tmp"];

/// The mount points of shared file systems that are directories of the BE, and that the commands may
/// not write to. Swap spaces have none.
fn shared_directories(
    environment: &BootEnvironment,
    root: &RootDir,
    writable: &[PathBuf],
) -> Result<Vec<PathBuf>> {
    let is_below = |place: &Path| place.is_absolute() && place != Path::new("/");
    let is_covered = |place: &Path| COVERED.iter().any(|covered| place.starts_with(covered));
    let shared = environment.file_systems.iter().filter(|f| f.shared && f.fs_type != "swap");
    let places = shared.map(|f| &f.mountpoint).filter(|place| !writable.contains(place));
    let mut directories = Vec::new();
    for place in places.filter(|place| is_below(place) && !is_covered(place)) {
        if root.directory(place)?.is_some() {
            directories.push(place.clone());
        }
    }
    Ok(directories)
}

/// The BE's own devices, with the UUIDs by which its programs find them.
pub(super) fn block_devices(
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

    fn managed(operation: Option<Operation>) -> BootEnvironment {
        let mut environment = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        let mut descriptor = Descriptor::new("second".parse().unwrap(), None);
        descriptor.operation = operation;
        environment.descriptor = Some(descriptor);
        environment
    }

    #[test]
    fn what_an_interrupted_command_or_upgrade_left_can_be_changed_again() {
        for (operation, is_refused) in [
            (Some(Operation::Run), false),
            (Some(Operation::Upgrade), false),
            (Some(Operation::Repair), false),
            (Some(Operation::Refresh), true),
            (Some(Operation::Create), true),
            (None, true),
        ] {
            let refused = refuse(&managed(operation), "", &[]).is_err();
            assert_eq!(refused, is_refused, "{operation:?}");
        }
        let error = refuse(&managed(Some(Operation::Run)), "", &["/srv".into()]).unwrap_err();
        assert!(error.to_string().contains("no file system on /srv"), "{error}");
    }

    #[test]
    fn only_an_upgrade_completes_what_an_interrupted_upgrade_left() {
        for (interrupted, operation, stays) in [
            (Operation::Upgrade, Operation::Run, true),
            (Operation::Upgrade, Operation::Upgrade, false),
            (Operation::Run, Operation::Run, false),
            (Operation::Run, Operation::Upgrade, false),
        ] {
            let environment = managed(Some(interrupted));
            let frames = Frames::new(&environment, true, operation);
            assert_eq!(frames.stays_incomplete, stays, "{interrupted} {operation}");
            let completes = frames.after.contains(&Frame::Complete("second"));
            let is_listed = frames.after.contains(&Frame::MakeActive);
            assert_eq!((completes, is_listed), (!stays, !stays), "{interrupted} {operation}");
        }
    }

    #[test]
    fn only_shared_mount_points_that_are_directories_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        for directory in ["home", "srv", "tmp", "swap"] {
            std::fs::create_dir(dir.path().join(directory)).unwrap();
        }
        let mut environment = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        let lines = [
            ("none", "swap"),
            ("swap", "swap"),
            ("/swap", "swap"),
            ("/", "ext4"),
            ("/home", "ext4"),
            ("/srv", "ext4"),
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
        let shared = |environment: &BootEnvironment| {
            shared_directories(environment, &root, &["/srv".into()]).unwrap()
        };
        assert_eq!(shared(&environment), [Path::new("/home")]);
        environment.file_systems.iter_mut().for_each(|f| f.shared = false);
        assert!(shared(&environment).is_empty());
    }
}
