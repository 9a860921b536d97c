//! `be boot`: kernel, initramfs and command line of a BE, started now by kexec(2).

mod images;
mod kernel;

use std::fmt::{Display, Formatter};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

pub use kernel::{BootChoice, choose};

use crate::discover;
use crate::environment::mounted::MountedEnvironment;
use crate::environment::{self, BootEnvironment};
use crate::error::{Error, Refusal, Result};
use crate::host::Host;
use crate::plan::{Plan, Report};
use crate::root_dir::RootDir;
use crate::session::lock::{InProgress, Lock};
use crate::signals;
use crate::step;
use crate::storage::namespace;
use crate::tool::Tool;
use images::BootImages;

/// How long that PID 1 may take to end this program.
const SUPERVISOR_PATIENCE: Duration = Duration::from_secs(30);

/// Starts a BE. Returns only if the report stopped after the plan, or while systemd shuts the
/// running system down.
///
/// # Errors
/// When the BE has no kernel that can be started and that memory can hold, or the kernel refuses to
/// load it; without `force`, when several devices answer to its names, or the BE is hibernated.
pub fn boot(host: &Host, reference: &str, force: bool, report: &mut dyn Report) -> Result<()> {
    // Starting another kernel would cut off an operation that is in progress.
    let lock = Lock::acquire(host)?;
    let inventory = discover::discover(host)?;
    let environment = inventory.find(reference)?;
    lock.note(InProgress::on("boot", environment));
    let dangers = dangers(environment, force)?;
    namespace::enter_private_namespace()?;
    let mounted = MountedEnvironment::mount_to_boot(host, &inventory, environment)?;
    let root = RootDir::open(mounted.root())?;
    let choice = choose(&root, environment, &inventory.devices)?;
    BootImages::open(host, &root, environment.name(), &choice)?;
    let steps = [Step::Load(&choice), Step::Start];
    let mut plan = Plan {
        title: format!("Start '{}' now, without the firmware", environment.name()),
        steps: step::lines(&steps),
        notes: choice.notes.clone(),
        ..Plan::default()
    };
    plan.notes.extend(dangers.into_iter().map(|danger| format!("--force: {danger}")));
    plan.notes.extend_from_slice(mounted.warnings());
    if environment.descriptor.as_ref().is_some_and(|d| d.state == environment::State::Incomplete) {
        plan.notes.push(format!("'{}' is {}", environment.name(), environment.state_text()));
    }
    if !lock.confirm(report, &plan)? {
        return Ok(());
    }
    let mut state = State { host, name: environment.name(), mounted: Some((root, mounted)) };
    step::run_all(&steps, &mut state, report)
}

/// The problems that make it dangerous to start a BE, with which it is started only by force.
fn dangers(environment: &BootEnvironment, force: bool) -> Result<Vec<String>, Refusal> {
    let dangerous = environment.problems.iter().filter(|problem| problem.is_dangerous());
    let problems: Vec<String> = dangerous.map(|problem| problem.text.clone()).collect();
    if force || problems.is_empty() {
        return Ok(problems);
    }
    Err(Refusal::UnsafeToStart { name: environment.reference.clone(), problems })
}

/// A step that starts a BE.
enum Step<'a> {
    Load(&'a BootChoice),
    Start,
}

/// What the steps share.
struct State<'a> {
    host: &'a Host,
    name: &'a str,
    /// The BE, mounted until its kernel is loaded.
    mounted: Option<(RootDir, MountedEnvironment)>,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Load(choice) => write!(
                f,
                "load /{} with {}, command line: {}",
                choice.kernel,
                choice.initrds_text(),
                choice.command_line
            ),
            Step::Start => f.write_str("end the running system and start that kernel"),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, _: &mut dyn Report) -> Result<()> {
        match self {
            Step::Load(choice) => {
                // Unmounted when this returns.
                let Some((root, _mounted)) = state.mounted.take() else { return Ok(()) };
                let images = BootImages::open(state.host, &root, state.name, choice)?;
                let (kernel, initrd) = images.into_files()?;
                boot::kexec::load(&kernel, initrd.as_ref(), &choice.command_line).map_err(|e| {
                    Error::boot(format!("loading /{} of '{}'", choice.kernel, state.name), e)
                })
            }
            Step::Start if state.host.run.join("systemd/system").exists() => {
                Tool::new("systemctl").arg("kexec").run()?;
                Ok(())
            }
            Step::Start if state.host.is_rescue_image() => {
                ask_supervisor().map_err(|e| Error::boot("starting the loaded kernel", e))
            }
            Step::Start => {
                rustix::fs::sync();
                boot::kexec::execute().map_err(|e| Error::boot("starting the loaded kernel", e))
            }
        }
    }
}

/// Asks PID 1 of the rescue image to start the loaded kernel. It first ends all programs, this one
/// too, and unmounts the disks: another console may have a file system mounted for writing.
fn ask_supervisor() -> std::io::Result<()> {
    nix::sys::signal::kill(Pid::from_raw(1), Signal::SIGHUP)?;
    let asked = Instant::now();
    while !signals::interrupted() {
        if asked.elapsed() > SUPERVISOR_PATIENCE {
            return Err(std::io::Error::other(
                "PID 1 does not answer: `dmesg` says why; restart the machine instead",
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::environment::Problem;

    #[test]
    fn a_be_that_starts_by_chance_or_is_hibernated_is_started_only_by_force() {
        let mut environment = BootEnvironment::empty(Path::new("/dev/lifeboat-none1"));
        environment.problems = vec![Problem::new("no-initramfs", "its kernel has no initramfs")];
        assert_eq!(dangers(&environment, false), Ok(Vec::new()));
        for code in ["ambiguous-root", "fstab-ambiguous", "hibernated"] {
            environment.problems.push(Problem::new(code, "why"));
            let refused = dangers(&environment, false).unwrap_err();
            assert_eq!(refused.code(), "unsafe-to-start", "{code}");
            assert!(refused.to_string().contains("why; see"), "{refused}");
            assert_eq!(dangers(&environment, true), Ok(vec!["why".to_owned()]));
            environment.problems.pop();
        }
    }
}
