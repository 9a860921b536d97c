//! `be verify --repair-from`: damaged files of a BE are put back from another one that has them as
//! the manifest says.

use std::fmt::{Display, Formatter};
use std::fs::FileTimes;
use std::io::Error as IoError;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::subject::{findings, manifest_of, refuse_unclean};
use crate::discover;
use crate::environment::mounted::{self, MountedEnvironment};
use crate::environment::{BootEnvironment, Operation, manifest};
use crate::error::{Doing, Error, Result};
use crate::escape::path_text;
use crate::host::Host;
use crate::operations::in_place::{self, Frame, Frames, InPlace, Progress};
use crate::operations::write_descriptor::{descriptor_of, hold};
use crate::plan::{Plan, Report, go_on};
use crate::root_dir::RootDir;
use crate::session::lock::{InProgress, Lock};
use crate::step;
use crate::storage::namespace;
use crate::tree::content::{Abilities, ContentCopier, ContentError};
use crate::tree::inspect::Inspected;
use crate::tree::manifest::{Entry, Status};

/// A repair.
#[derive(Clone, Copy, Debug)]
pub struct RepairRequest<'a> {
    /// What names the BE.
    pub reference: &'a str,
    /// What names the BE that has its files undamaged.
    pub from: &'a str,
    /// Globs on paths as the BE sees them: what is left out.
    pub exclude: &'a [String],
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Files that have their content again.
    pub files: Vec<PathBuf>,
    /// Files that are still damaged, with the reason.
    pub left: Vec<(PathBuf, String)>,
}

/// A damaged file that is undamaged elsewhere.
struct Damage {
    /// Its names.
    paths: Vec<PathBuf>,
    /// What the manifest knows of it.
    known: Entry,
}

/// Verifies a BE and puts its damaged files back. `None` if the report stopped after the plan.
///
/// # Errors
/// The BE is running, incomplete, has no manifest or cannot be written.
pub fn repair(
    host: &Host,
    request: RepairRequest<'_>,
    report: &mut dyn Report,
) -> Result<Option<Repaired>> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(request.reference)?;
    lock.note(InProgress::on("verify", environment));
    descriptor_of(environment)?;
    in_place::refuse(
        environment,
        "boot another boot environment and repair it from there, or install the packages of its \
        damaged files again",
        &[],
    )?;
    refuse_interrupted(environment)?;
    mounted::refuse_for_commands(&inventory, environment, &[], false)?;
    refuse_unclean(host, &inventory, environment)?;
    let source = inventory.find(request.from)?;
    if std::ptr::eq(source, environment) {
        return Err(Error::Usage(format!(
            "'{}' cannot be repaired from itself: name another boot environment",
            environment.name()
        )));
    }
    let entry = in_place::own_entry(host, &inventory, environment)?;
    let holds = hold(host, &inventory, environment.own_devices())?;
    namespace::enter_private_namespace()?;
    let source_mounted = MountedEnvironment::mount_system(host, &inventory, source)?;
    let source_root = RootDir::open(source_mounted.root())?;
    report.part(&format!("read every file of '{}'", environment.name()));
    let (damage, mut repaired) = {
        let mounted = MountedEnvironment::mount_system(host, &inventory, environment)?;
        mounted.warnings().iter().for_each(|warning| report.warn(warning));
        let progress = &mut |count: Inspected, total| {
            report.progress(&manifest::progress(count, Some(total)));
        };
        let found = damage(environment, &mounted, &source_root, request, progress)?;
        mounted.unmount()?;
        found
    };
    report.ended();
    // An interrupted repair may have put the last file back.
    let is_complete = environment.descriptor.as_ref().is_none_or(|d| d.refuse_incomplete().is_ok());
    if damage.is_empty() && is_complete {
        return Ok(Some(repaired));
    }
    let frames = Frames::new(environment, entry.is_some(), Operation::Repair);
    let steps = steps(&frames, &damage, source);
    let plan = Plan {
        title: match damage.len() {
            0 => format!("End the repair of '{}' that was interrupted", environment.name()),
            count => format!(
                "Put {count} damaged files of '{}' back from '{}'",
                environment.name(),
                source.name()
            ),
        },
        steps: step::lines(&steps),
        notes: repaired
            .left
            .iter()
            .map(|(path, why)| format!("{} stays damaged: {why}", path.display()))
            .collect(),
        ..Plan::default()
    };
    if !lock.confirm(report, &plan)? {
        return Ok(None);
    }
    holds.refuse_changed()?;
    if let Some(note) = environment.trial_called_off().filter(|_| entry.is_some()) {
        report.warn(&note);
    }
    let place = InPlace::new(host, &inventory, environment, &lock, &[]);
    let mut state = State { place, source: &source_root, repaired: &mut repaired };
    step::run_all(&steps, &mut state, report)?;
    Ok(Some(repaired))
}

/// Refuses a BE that another operation left incomplete: what its command did is not damage.
fn refuse_interrupted(environment: &BootEnvironment) -> Result<()> {
    match &environment.descriptor {
        Some(descriptor) if descriptor.operation != Some(Operation::Repair) => {
            Ok(descriptor.refuse_incomplete()?)
        }
        _ => Ok(()),
    }
}

/// Whether no program has changed what is at this path since it was recorded.
fn is_unchanged(root: &RootDir, path: &Path, known: &Entry) -> Result<bool> {
    let file = root.file(path)?;
    file.map_or(Ok(false), |file| known.is_unchanged(file).at("reading", path))
}

/// Adds a damaged file, or a further name of one.
fn add(damage: &mut Vec<Damage>, path: PathBuf, known: &Entry) {
    match damage.iter_mut().find(|other| other.known.is_same_file(known)) {
        Some(other) => other.paths.push(path),
        None => damage.push(Damage { paths: vec![path], known: known.clone() }),
    }
}

/// The damaged files that the source has as the manifest says; and what is left, with the reason.
fn damage(
    environment: &BootEnvironment,
    mounted: &MountedEnvironment,
    source: &RootDir,
    request: RepairRequest<'_>,
    progress: &mut dyn FnMut(Inspected, u64),
) -> Result<(Vec<Damage>, Repaired)> {
    let root = RootDir::open(mounted.root())?;
    let known = manifest_of(environment, &root)?;
    let found = findings(environment, mounted, &known, request.exclude, progress)?;
    let (mut damage, mut repaired) = (Vec::new(), Repaired::default());
    let left = &mut repaired.left;
    for finding in found.findings.into_iter().filter(|finding| finding.status.is_damage()) {
        let path = finding.path;
        let is_content = match &finding.status {
            Status::Damaged(attributes) => *attributes == ["content"],
            status => matches!(status, Status::Unreadable(_)),
        };
        let known = known.entry(&path).filter(|known| is_content && known.has_hash());
        let Some(known) = known else {
            left.push((path, "only the content of files is put back: refresh it instead".into()));
            continue;
        };
        go_on()?;
        let has_it = source
            .file(&path)
            .map(|file| file.is_some_and(|file| known.proves(&file).unwrap_or(false)));
        go_on()?;
        match has_it {
            Ok(true) => match is_unchanged(&root, &path, known) {
                Ok(true) => add(&mut damage, path, known),
                Ok(false) => {
                    left.push((path, "a program has changed it since it was recorded".into()));
                }
                Err(why) => left.push((path, why.to_string())),
            },
            Ok(false) => left.push((path, format!("'{}' does not have it", request.from))),
            Err(why) => left.push((path, why.to_string())),
        }
    }
    Ok((damage, repaired))
}

fn steps<'a>(
    frames: &Frames<'a>,
    damage: &'a [Damage],
    source: &'a BootEnvironment,
) -> Vec<Step<'a>> {
    let before = frames.before.iter().copied().map(Step::Frame);
    let after = frames.after.iter().copied().map(Step::Frame);
    let files = damage.iter().map(|damage| Step::PutBack(damage, source.name()));
    before.chain(files).chain(after).collect()
}

enum Step<'a> {
    Frame(Frame<'a>),
    PutBack(&'a Damage, &'a str),
}

/// What the steps share.
struct State<'a> {
    place: InPlace<'a>,
    source: &'a RootDir,
    repaired: &'a mut Repaired,
}

impl State<'_> {
    /// Puts the content of one file back. One for which that fails is left as it was, damaged.
    fn put_back(&mut self, damage: &Damage) -> Result<()> {
        let before = std::mem::replace(&mut self.place.progress, Progress::Started);
        let [path, others @ ..] = &damage.paths[..] else { return Ok(()) };
        let root = self.place.root()?;
        let names = match self.replace(&root, path, &damage.known) {
            Ok(names) => names,
            Err(Error::Interrupted) => return Err(Error::Interrupted),
            Err(why) => {
                self.place.progress = before;
                go_on()?;
                let left = damage.paths.iter().map(|path| (path.clone(), why.to_string()));
                self.repaired.left.extend(left);
                return Ok(());
            }
        };
        self.place.progress = Progress::Ended;
        self.repaired.files.push(path.clone());
        for other in others {
            match root.hard_link(path, other) {
                Ok(()) => self.repaired.files.push(other.clone()),
                Err(why) => self.repaired.left.push((other.clone(), why.to_string())),
            }
        }
        if names > damage.paths.len() as u64 {
            let why = "it has more names, which were left out and keep the damaged content";
            self.repaired.left.push((path.clone(), why.into()));
        }
        Ok(())
    }

    /// Replaces a file by one with the content of the source, and with the owner, mode and extended
    /// attributes that it has, and the time that it had. Returns how many names it had.
    fn replace(&self, root: &RootDir, path: &Path, known: &Entry) -> Result<u64> {
        if !is_unchanged(root, path, known)? {
            let why = "a program has changed it since it was verified: run the command again";
            return Err(Error::Failed(why.into()));
        }
        let source = self.source.file(path)?.ok_or_else(|| gone(path))?;
        let before = root.symlink_metadata(path)?.ok_or_else(|| gone(path))?;
        let (abilities, stop) = (Abilities::default(), || go_on().is_err());
        let source = OwnedFd::from(source);
        root.replace(path, before.mode() & 0o7777, |file| {
            let stat = rustix::fs::fstat(&source)?;
            let new = file.as_fd().try_clone_to_owned()?;
            ContentCopier::new(&abilities, &stop, &|_| {}).copy(&source, &new, &stat).map_err(
                |why| match why {
                    ContentError::Read(why) | ContentError::Write(why) => IoError::from(why),
                    ContentError::Stopped => IoError::from(std::io::ErrorKind::Interrupted),
                },
            )?;
            // Not what was to be written, but what is there: from the disk, as far as the kernel
            // has nothing to write any more.
            file.sync_all()?;
            rustix::fs::fadvise(&*file, 0, None, rustix::fs::Advice::DontNeed)?;
            if !known.proves(file)? {
                return Err(IoError::other("it has been changed in the other boot environment"));
            }
            file.set_times(FileTimes::new().set_modified(before.modified()?))
        })?;
        Ok(before.nlink())
    }
}

fn gone(path: &Path) -> Error {
    Error::Failed(format!("{} is not there any more: run the command again", path.display()))
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Frame(frame) => frame.fmt(f),
            Step::PutBack(damage, source) => {
                let paths: Vec<_> = damage.paths.iter().map(|path| path_text(path)).collect();
                write!(f, "put {} back from '{source}'", paths.join(", "))
            }
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        match self {
            Step::Frame(frame) => frame.run(&mut state.place, report),
            Step::PutBack(damage, _) => {
                let lock = state.place.lock;
                lock.without_boot_lock(|| state.put_back(damage))?
            }
        }
    }

    fn is_due_after_failure(&self, state: &State) -> bool {
        matches!(self, Step::Frame(frame) if frame.is_due_after_failure(&state.place))
    }

    fn completes_previous(&self) -> bool {
        matches!(self, Step::Frame(frame) if frame.is_after())
    }
}
