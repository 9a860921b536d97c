//! `be run`: mounts a BE with all its file systems in a private namespace, and runs a command in
//! it. While the command changes it, the BE is incomplete.

use std::ffi::{OsStr, OsString};
use std::fmt::{Display, Formatter};
use std::path::{Path, PathBuf};

use super::in_place::{self, Frame, Frames, InPlace, Progress};
use super::write_descriptor::hold;
use crate::discover;
use crate::environment::Operation;
use crate::environment::mounted;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::{Plan, Report};
use crate::sandbox::Inside;
use crate::session::lock::{InProgress, Lock};
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
/// ([`mounted::refuse_for_commands`]).
pub fn in_environment(
    host: &Host,
    request: RunRequest<'_>,
    report: &mut dyn Report,
) -> Result<Option<u8>> {
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(request.reference)?;
    lock.note(InProgress::on("run", environment));
    in_place::refuse(environment, "run the command without `be run`", request.writable)?;
    mounted::refuse_for_commands(&inventory, environment, request.writable, false)?;
    let entry = in_place::own_entry(host, &inventory, environment)?;
    let holds = hold(host, &inventory, environment.own_devices())?;
    let frames = Frames::new(environment, entry.is_some(), Operation::Run);
    let steps = steps(&frames, request.command);
    let mut plan = Plan {
        title: format!("Run a command in '{}'", environment.name()),
        steps: step::lines(&steps),
        notes: notes(request),
        ..Plan::default()
    };
    plan.notes.extend(frames.stays_incomplete.then(|| {
        format!(
            "'{}' stays incomplete: an upgrade was interrupted in it, and the same upgrade has to \
            be run again",
            environment.name()
        )
    }));
    if !lock.confirm(report, &plan)? {
        return Ok(None);
    }
    holds.refuse_changed()?;
    plan.notes.iter().for_each(|note| report.warn(note));
    if let Some(note) = environment.trial_called_off().filter(|_| entry.is_some()) {
        report.warn(&note);
    }
    namespace::enter_private_namespace()?;
    let place = InPlace::new(host, &inventory, environment, &lock, request.writable);
    let mut state = State { place, request, status: None };
    step::run_all(&steps, &mut state, report)?;
    Ok(state.status)
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

fn steps<'a>(frames: &Frames<'a>, command: &'a [OsString]) -> Vec<Step<'a>> {
    let before = frames.before.iter().copied().map(Step::Frame);
    let after = frames.after.iter().copied().map(Step::Frame);
    before.chain([Step::Run(command)]).chain(after).collect()
}

#[derive(Debug, PartialEq, Eq)]
enum Step<'a> {
    Frame(Frame<'a>),
    Run(&'a [OsString]),
}

/// What the steps share.
struct State<'a> {
    place: InPlace<'a>,
    request: RunRequest<'a>,
    /// The exit status of the command, once it has ended by itself.
    status: Option<u8>,
}

impl State<'_> {
    fn run(&mut self) -> Result<()> {
        let RunRequest { privileged, network, command, .. } = self.request;
        let before = std::mem::replace(&mut self.place.progress, Progress::Started);
        let ended = self
            .place
            .run(|inside| Inside { privileged, network, interactive: true, ..inside }.run(command));
        match ended {
            Ok(status) => {
                log::info!("the command ended with status {status}");
                self.place.progress = Progress::Ended;
                self.status = Some(status);
                Ok(())
            }
            Err(killed @ (Error::Interrupted | Error::Tool(ToolError::Killed { .. }))) => {
                Err(killed)
            }
            Err(not_started) => {
                self.place.progress = before;
                Err(not_started)
            }
        }
    }
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Frame(frame) => frame.fmt(f),
            Step::Run(command) => write!(f, "run {}", command.join(OsStr::new(" ")).display()),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, report: &mut dyn Report) -> Result<()> {
        match self {
            Step::Frame(frame) => frame.run(&mut state.place, report),
            Step::Run(_) => state.run(),
        }
    }

    fn is_due_after_failure(&self, state: &State) -> bool {
        matches!(self, Step::Frame(frame) if frame.is_due_after_failure(&state.place))
    }

    fn completes_previous(&self) -> bool {
        matches!(self, Step::Frame(frame) if frame.is_after())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{BootEnvironment, Descriptor};

    #[test]
    fn a_boot_environment_is_incomplete_and_not_listed_while_a_command_changes_it() {
        let mut environment = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        let command = [OsString::from("apt-get"), "upgrade".into()];
        let lines = |environment: &BootEnvironment, entry: Option<u16>| {
            step::lines(&steps(
                &Frames::new(environment, entry.is_some(), Operation::Run),
                &command,
            ))
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
                "make its boot entry inactive",
                "mount the file systems of 'second'",
                "run apt-get upgrade",
                "write the manifest of 'second'",
                "sync and unmount the file systems of 'second'",
                "mark 'second' as complete",
                "make its boot entry active",
            ]
        );
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
}
