//! `be cancel`: ends what is in progress on a BE, and what is scheduled for it.

use std::fmt::{Display, Formatter};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::schedule::{self, Schedule};
use crate::discover;
use crate::environment::{BootEnvironment, Id, Inventory};
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::plan::{Plan, Report, go_on};
use crate::session::lock::{self, Holder, InProgress};
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
    /// What it does. `None` if it does not know that itself yet.
    in_progress: Option<InProgress>,
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
    let meant = Meant { environment, reference };
    let mut scheduled = scheduled(schedule::readable(host)?, &inventory, reference)?;
    if let (None, Some(environment)) = (&scheduled, environment) {
        // It may be there, and not be readable.
        scheduled = schedule::of(host, environment)?;
    }
    let is_ours = |operation: &Operation| {
        let on = operation.in_progress.as_ref();
        on.is_some_and(|on| meant.is(on.id, &on.reference))
    };
    let operation = in_progress(host)?;
    if scheduled.is_none() && !operation.as_ref().is_some_and(is_ours) {
        let others = operation.map(|other| format!("; {other}")).unwrap_or_default();
        return Err(Refusal::NothingToCancel { name: reference.into(), others }.into());
    }
    let operation = operation.filter(is_ours);
    let mut steps = Vec::new();
    steps.extend(scheduled.as_ref().map(Step::Unschedule));
    steps.extend(operation.as_ref().map(Step::Interrupt));
    let plan = Plan {
        title: format!("Cancel what is in progress on '{reference}' or scheduled for it"),
        steps: step::lines(&steps),
        // The packages are then half upgraded, and only another upgrade makes them whole.
        is_asked: operation.as_ref().is_some_and(Operation::is_upgrade),
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

/// What is scheduled for the BE that a word of the command line names: by its id, or by its name
/// now. A BE may be gone, or its disk; only such a one is known by the name that it had when it was
/// scheduled.
///
/// # Errors
/// [`Refusal::Ambiguous`]
fn scheduled(
    mut all: Vec<Schedule>,
    inventory: &Inventory,
    reference: &str,
) -> Result<Option<Schedule>> {
    let is_called = |name: &str| name.eq_ignore_ascii_case(reference);
    let ids = |is_meant: &dyn Fn(&BootEnvironment) -> bool| -> Vec<Id> {
        let found = inventory.environments.iter().filter(|e| is_meant(e));
        found.filter_map(|e| Some(e.descriptor.as_ref()?.id)).collect()
    };
    let known = ids(&|_| true);
    let found = inventory.find(reference).ok().map(|e| e.root.clone());
    let meant =
        ids(&|e| is_called(e.name()) || is_called(&e.reference) || Some(&e.root) == found.as_ref());
    all.retain(|found| {
        found.id.to_string() == reference
            || meant.contains(&found.id)
            || !known.contains(&found.id) && is_called(found.name.as_str())
    });
    if all.len() > 1 {
        let candidates = all.iter().map(|found| found.id.to_string()).collect();
        return Err(Refusal::Ambiguous { name: reference.into(), candidates }.into());
    }
    Ok(all.pop())
}

/// The BE that the user means.
#[derive(Clone, Copy)]
struct Meant<'a> {
    /// `None` if it is not on any disk, or not yet.
    environment: Option<&'a BootEnvironment>,
    /// The word of the command line.
    reference: &'a str,
}

impl Meant<'_> {
    /// Whether it is the one with this id, or is called so. One that is created again in the place
    /// of an interrupted one has a new id and the same name.
    fn is(&self, id: Option<Id>, reference: &str) -> bool {
        let Meant { environment, reference: word } = *self;
        let is_called = |name: &str| name.eq_ignore_ascii_case(reference);
        let has_id = |e: &BootEnvironment| {
            e.descriptor.as_ref().is_some_and(|descriptor| id == Some(descriptor.id))
        };
        is_called(word)
            || id.is_some_and(|id| id.to_string() == word)
            || environment.is_some_and(|e| has_id(e) || is_called(&e.reference))
    }
}

/// The operation that has the lock of this machine.
fn in_progress(host: &Host) -> Result<Option<Operation>> {
    let Some(found) = lock::holder_of_operation(host)? else { return Ok(None) };
    let Some(pid) = Pid::from_raw(found.pid) else { return Ok(None) };
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::SRCH) => return Ok(None),
        opened => opened.doing(|| format!("opening process {}", found.pid))?,
    };
    // What is open now is that process only if it still has the lock, since the same moment.
    let Some(Holder { in_progress, .. }) = lock::holder_of_operation(host)?
        .filter(|now| (now.pid, now.started) == (found.pid, found.started))
    else {
        return Ok(None);
    };
    Ok(Some(Operation { pid, process, in_progress }))
}

impl Operation {
    fn is_upgrade(&self) -> bool {
        self.in_progress.as_ref().is_some_and(|on| on.verb == "upgrade")
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
            Step::Unschedule(found) => f.write_str(&schedule::removal(found)),
            Step::Interrupt(operation) => {
                let pid = operation.pid.as_raw_nonzero();
                write!(f, "interrupt process {pid}")?;
                if let Some(InProgress { verb, reference, .. }) = &operation.in_progress {
                    write!(f, " ({verb} of '{reference}')")?;
                }
                f.write_str(", and wait until it has ended")
            }
        }
    }
}

impl Display for Operation {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let pid = self.pid.as_raw_nonzero();
        match &self.in_progress {
            Some(InProgress { verb, reference, .. }) => {
                write!(f, "process {pid} runs be {verb} on '{reference}'")
            }
            None => write!(f, "process {pid} does not say on which boot environment it works"),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::testing::environment;
    use crate::storage::device::BlockDevice;
    use crate::storage::probe::{Kind, SuperBlock};

    #[test]
    fn only_the_schedule_of_the_one_that_is_meant_is_cancelled() {
        let mut renamed = environment("nightly", "aaaa-02").complete();
        let mut newer = environment("nightly", "aaaa-03").complete();
        let id = |be: &BootEnvironment| be.descriptor.as_ref().unwrap().id;
        let schedule = |be: &BootEnvironment| {
            let mut found = Schedule::example(be.name());
            found.id = id(be);
            found
        };
        // Both were called so when they were scheduled.
        let all = vec![schedule(&renamed), schedule(&newer)];
        renamed.descriptor.as_mut().unwrap().name = "old".parse().unwrap();
        (renamed.reference, renamed.root.device) = ("old".into(), "/dev/vdz1".into());
        let device = BlockDevice::example("vdz1", SuperBlock::new(Kind::Ext4));
        let mut inventory = Inventory {
            environments: vec![renamed.clone(), newer.clone()],
            devices: [device].into_iter().collect(),
            ..Inventory::default()
        };
        let found = |all: &[Schedule], inventory: &Inventory, reference: &str| {
            scheduled(all.to_vec(), inventory, reference).map(|found| found.map(|found| found.id))
        };
        assert_eq!(found(&all, &inventory, "NIGHTLY").unwrap(), Some(id(&newer)));
        assert_eq!(found(&all, &inventory, "old").unwrap(), Some(id(&renamed)));
        assert_eq!(found(&all, &inventory, "third").unwrap(), None);
        assert_eq!(found(&all, &inventory, "old@vdz1").unwrap(), Some(id(&renamed)));
        let of_renamed = id(&renamed).to_string();
        assert_eq!(found(&all, &inventory, &of_renamed).unwrap(), Some(id(&renamed)));
        // Nothing is scheduled for the one that has the name now.
        assert_eq!(found(&all[..1], &inventory, "nightly").unwrap(), None);
        // Their disk is away.
        inventory.environments.clear();
        assert_eq!(found(&all[..1], &inventory, "nightly").unwrap(), Some(id(&renamed)));
        let ambiguous = found(&all, &inventory, "nightly").unwrap_err().to_string();
        assert!(ambiguous.contains(&of_renamed), "{ambiguous}");
        // Two of one name.
        newer.descriptor.as_mut().unwrap().name = "old".parse().unwrap();
        inventory.environments = vec![renamed, newer];
        found(&all, &inventory, "old").unwrap_err();
    }

    #[test]
    fn an_operation_is_found_by_the_id_and_the_name_that_it_noted() {
        let second = environment("second", "aaaa-02").complete();
        let id = second.descriptor.as_ref().map(|descriptor| descriptor.id);
        let other = Id::random();
        let other_id = other.to_string();
        for (environment, reference, noted, is_meant) in [
            (Some(&second), "second@vda3", (id, "second"), true),
            (Some(&second), "second", (id, "renamed-meanwhile"), true),
            (Some(&second), "SECOND", (Some(other), "second"), true),
            (Some(&second), "second", (Some(other), "third"), false),
            // It is created, and nothing of it is on a disk.
            (None, "second", (None, "second"), true),
            (None, &other_id, (Some(other), "second"), true),
            (None, "second", (None, "third"), false),
        ] {
            let meant = Meant { environment, reference };
            assert_eq!(meant.is(noted.0, noted.1), is_meant, "{reference} {noted:?}");
        }
    }
}
