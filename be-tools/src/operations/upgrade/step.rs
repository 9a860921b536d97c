//! The steps of an upgrade.

use std::fmt::{Display, Formatter};
use std::path::Path;
use std::time::Duration;

use super::transcript::Transcript;
use crate::distribution::package_manager::{
    Event, NewFile, PackageCommand, PackageManager, PackagePlan, Reused,
};
use crate::error::{Doing, Error, Result};
use crate::operations::in_place::{self, Frame, Frames, InPlace};
use crate::plan::{Progress, Report, Unit};
use crate::sandbox::{Inside, Limits, NOT_PREPARED};
use crate::step;

/// The bounds of a package manager. A whole release on a slow machine takes hours. An interrupted
/// one finishes the package that it works on, whose scripts may make an initramfs: if it is killed,
/// that package is broken.
const LIMITS: Limits = Limits {
    output: 32 << 20,
    time: Duration::from_secs(24 * 3600),
    grace: Duration::from_secs(300),
};

#[derive(Debug)]
pub(super) enum Step<'a> {
    Frame(Frame<'a>),
    Files(&'a [NewFile]),
    Reuse(&'a [Reused]),
    Command(&'a PackageCommand),
}

/// The steps, in order.
pub(super) fn list<'a>(frames: &Frames<'a>, packages: &'a PackagePlan) -> Vec<Step<'a>> {
    if packages.commands.is_empty() {
        return Vec::new();
    }
    let mut steps: Vec<Step> = frames.before.iter().copied().map(Step::Frame).collect();
    steps.extend((!packages.files.is_empty()).then_some(Step::Files(&packages.files)));
    steps.extend((!packages.reused.is_empty()).then_some(Step::Reuse(&packages.reused)));
    steps.extend(packages.commands.iter().map(Step::Command));
    steps.extend(frames.after.iter().copied().map(Step::Frame));
    steps
}

/// What the steps share.
pub(super) struct State<'a> {
    pub(super) place: InPlace<'a>,
    pub(super) manager: &'a dyn PackageManager,
    pub(super) packages: &'a PackagePlan,
    pub(super) work: &'a Path,
    /// Whether every command has the network, and not only those that download.
    pub(super) network: bool,
    pub(super) transcript: Transcript,
}

impl State<'_> {
    fn write_files(&mut self, files: &[NewFile]) -> Result<()> {
        self.place.progress = in_place::Progress::Started;
        let root = self.place.root()?;
        files.iter().try_for_each(|file| root.write(&file.path, file.text.as_bytes(), 0o644))
    }

    fn reuse(&mut self, files: &[Reused]) -> Result<()> {
        self.place.progress = in_place::Progress::Started;
        let root = self.place.root()?;
        files.iter().try_for_each(|file| {
            let bytes = std::fs::read(&file.from).at("reading", &file.from)?;
            root.write(&file.to, &bytes, 0o644)
        })
    }

    fn command(&mut self, command: &PackageCommand, report: &mut dyn Report) -> Result<()> {
        let State { place, manager, packages, work, network, transcript } = self;
        let total = packages.changes.changes.len() as u64;
        let download = packages.changes.download;
        let before = std::mem::replace(&mut place.progress, in_place::Progress::Started);
        let network = command.network || *network;
        let ended = place.run(|inside| {
            let (work, ends_by_itself) = (Some(*work), true);
            let inside = Inside { work, network, ends_by_itself, limits: LIMITS, ..inside };
            inside.stream(&command.words, manager.name(), &mut |line| {
                let event = manager.event(line);
                if transcript.add(line, event) {
                    if !line.trim().is_empty() {
                        log::info!("{line}");
                    }
                    return;
                }
                let done = transcript.done.len() as u64;
                let progress = Progress { unit: Unit::Packages, ..Progress::default() };
                report.progress(&match event {
                    Some(Event::Downloaded(part)) => {
                        let bytes = (part * download as f64) as u64;
                        Progress { bytes, total_bytes: Some(download), ..progress }
                    }
                    _ => Progress { files: done.min(total), total_files: Some(total), ..progress },
                });
            })
        });
        let status = match ended {
            Ok(status) if status.success() => {
                place.progress = in_place::Progress::Ended;
                return Ok(());
            }
            // What is cached changes nothing.
            Ok(status) if command.network && before == in_place::Progress::Begun => {
                place.progress = before;
                return Err(Error::Failed(format!(
                    "{} could not download what it needs ({status}): {}; '{}' is as it was",
                    manager.name(),
                    transcript.last_words(),
                    place.environment.name()
                )));
            }
            Ok(status) => status,
            Err(killed @ (Error::Interrupted | Error::Tool(_))) => {
                if command.network && before == in_place::Progress::Begun {
                    place.progress = before;
                }
                return Err(killed);
            }
            Err(not_started) => {
                place.progress = before;
                return Err(not_started);
            }
        };
        if status.code() == Some(NOT_PREPARED.into()) {
            place.progress = before;
        }
        Err(Error::PackageManager {
            program: manager.name(),
            status,
            name: place.environment.name().to_owned(),
            last_words: transcript.last_words(),
        })
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Frame(frame) => frame.fmt(f),
            Step::Files(files) => {
                let paths: Vec<_> =
                    files.iter().map(|f| format!("/{}", f.path.display())).collect();
                write!(f, "write {}", paths.join(", "))
            }
            Step::Reuse(files) => {
                write!(f, "take {} downloads over from the running system", files.len())
            }
            Step::Command(command) => f.write_str(&command.line),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        match self {
            Step::Frame(frame) => frame.run(&mut state.place, report),
            Step::Files(files) => state.write_files(files),
            Step::Reuse(files) => state.reuse(files),
            Step::Command(command) => state.command(command, report),
        }
    }

    fn is_due_after_failure(&self, state: &State) -> bool {
        matches!(self, Step::Frame(frame) if frame.is_due_after_failure(&state.place))
    }

    fn completes_previous(&self) -> bool {
        matches!(self, Step::Frame(frame) if frame.is_after())
    }
}
