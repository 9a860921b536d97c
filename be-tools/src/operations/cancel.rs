//! `be cancel`: ends what is in progress on a BE, and what is scheduled for it.

use std::fmt::{Display, Formatter};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::schedule::{self, Schedule};
use crate::discover;
use crate::environment::{BootEnvironment, Inventory};
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::plan::{Plan, Report, go_on};
use crate::session::lock;
use crate::step;

/// How often signals are checked while an operation ends.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// How long an operation may take to end. The package that dpkg works on is finished, or killed
/// after five minutes, and a hook that wakes a database runs to its end.
const PATIENCE: Duration = Duration::from_secs(900);

/// An operation that is in progress.
#[derive(Debug)]
struct Operation {
    pid: Pid,
    /// The process, whatever has its number later.
    process: OwnedFd,
    /// Its arguments, the verb first.
    arguments: Vec<String>,
}

/// Ends what is in progress on a BE or scheduled for it. Returns the state in which that left the BE,
/// if it still exists. `None` if the report stopped after the plan.
///
/// # Errors
/// There is nothing to cancel, or what is in progress is on another BE.
pub fn cancel(host: &Host, reference: &str, report: &mut dyn Report) -> Result<Option<String>> {
    let inventory = discover::discover(host)?;
    // One that is being created may have no name on a disk yet.
    let environment = inventory.find(reference).ok();
    let is_meant = |word: &str| is_name_of(&inventory, environment, reference, word);
    let scheduled = schedule::scheduled(host)?.into_iter().map(|found| found.schedule);
    // The BE may be gone, or its disk.
    let scheduled = scheduled.into_iter().find(|found| {
        is_meant(&found.id.to_string())
            || environment.is_none() && found.name.as_str().eq_ignore_ascii_case(reference)
    });
    let operation = in_progress(host)?;
    let (ours, others): (Vec<_>, Vec<_>) =
        operation.into_iter().partition(|operation| operation.target().is_some_and(is_meant));
    let operation = ours.into_iter().next();
    if scheduled.is_none() && operation.is_none() {
        let what = others.first().map(|other| {
            let (line, pid) = (other.arguments.join(" "), other.pid.as_raw_nonzero());
            format!("; process {pid} runs '{line}'")
        });
        return Err(Refusal::NothingToCancel {
            name: reference.into(),
            others: what.unwrap_or_default(),
        }
        .into());
    }
    let mut steps = Vec::new();
    steps.extend(scheduled.as_ref().map(Step::Unschedule));
    steps.extend(operation.as_ref().map(Step::Interrupt));
    let plan = Plan {
        title: format!("Cancel what is in progress on '{reference}' or scheduled for it"),
        steps: step::lines(&steps),
        ..Plan::default()
    };
    if !report.confirm(&plan)? {
        return Ok(None);
    }
    step::run_all(&steps, &mut State { host }, report)?;
    let inventory = discover::discover(host)?;
    let left = inventory.find(reference).ok().map(BootEnvironment::state_text);
    Ok(Some(left.unwrap_or_else(|| "not there".into())))
}

/// Whether a word of a command line is a name of the BE.
fn is_name_of(
    inventory: &Inventory,
    environment: Option<&BootEnvironment>,
    reference: &str,
    word: &str,
) -> bool {
    let Some(environment) = environment else { return word.eq_ignore_ascii_case(reference) };
    inventory.find(word).is_ok_and(|found| found.root == environment.root)
}

/// The operation that has the lock of this machine.
fn in_progress(host: &Host) -> Result<Option<Operation>> {
    let Some(pid) = lock::holder_of_operation(host)?.and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let gone = |why: &Errno| *why == Errno::SRCH;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(why) if gone(&why) => return Ok(None),
        opened => opened.doing(|| format!("opening process {}", pid.as_raw_nonzero()))?,
    };
    let file: PathBuf = host.proc.join(format!("{}/cmdline", pid.as_raw_nonzero()));
    let bytes = match std::fs::read(&file) {
        Ok(bytes) => bytes,
        // It has ended meanwhile.
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(why) => return Err(why).at("reading", &file),
    };
    let words = bytes.split(|b| *b == 0).filter(|word| !word.is_empty()).skip(1);
    let arguments = words.map(|word| String::from_utf8_lossy(word).into_owned()).collect();
    Ok(Some(Operation { pid, process, arguments }))
}

impl Operation {
    /// The BE that it changes: the word after the verb. If that is an option, which BE it changes is
    /// not known, and it is not taken for any: other words may be names of other BEs.
    fn target(&self) -> Option<&str> {
        self.arguments.get(1).map(String::as_str).filter(|word| !word.starts_with('-'))
    }

    /// Ends it as `kill` does: between two steps, or by interrupting its program. Returns when it
    /// has ended.
    fn interrupt(&self) -> Result<()> {
        let doing = || format!("interrupting process {}", self.pid.as_raw_nonzero());
        match pidfd_send_signal(&self.process, Signal::TERM) {
            Err(Errno::SRCH) => return Ok(()),
            sent => sent.doing(doing)?,
        }
        let since = Instant::now();
        loop {
            go_on()?;
            if since.elapsed() > PATIENCE {
                return Err(Error::Failed(format!(
                    "process {} has not ended: it may wait for an answer, or have a shell open; \
                    end that",
                    self.pid.as_raw_nonzero()
                )));
            }
            let mut waiting = [PollFd::new(&self.process, PollFlags::IN)];
            match poll(&mut waiting, Some(&TICK)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(why) => return Err(why).doing(doing),
            }
        }
    }
}

enum Step<'a> {
    Unschedule(&'a Schedule),
    Interrupt(&'a Operation),
}

struct State<'a> {
    host: &'a Host,
}

impl Display for Step<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Step::Unschedule(found) => {
                let Schedule { name, calendar, .. } = found;
                write!(f, "remove the timer for '{name}' ({} at '{calendar}')", found.what())
            }
            Step::Interrupt(Operation { pid, arguments, .. }) => write!(
                f,
                "interrupt process {} (be {}), and wait until it has ended",
                pid.as_raw_nonzero(),
                arguments.join(" ")
            ),
        }
    }
}

impl step::Step<State<'_>> for Step<'_> {
    fn run(&self, state: &mut State, _: &mut dyn Report) -> Result<()> {
        match self {
            Step::Unschedule(found) => schedule::remove(state.host, found),
            Step::Interrupt(operation) => operation.interrupt(),
        }
    }
}
