//! The locks of this machine (flock(2) on files in `/run/lifeboat`): one allows one operation at a
//! time, the other one writer of boot entries and loader files. `be confirm` takes only the second.
//! It is free while an operation waits for an answer and in its long steps, so that neither keeps a
//! trial from being confirmed.

mod holder;

use std::fs::File;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::plan::{Plan, Report, go_on};
pub use holder::{Holder, InProgress};

/// How long [`Lock::wait`] waits. Several operations may be scheduled for one time, and a question
/// may wait for its answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// How often [`Lock::wait`] tries.
const PAUSE: Duration = Duration::from_secs(1);

/// The lock of an operation, with that of the boot entries. The kernel releases both when the
/// process dies.
#[derive(Debug)]
pub struct Lock {
    operation: Locked,
    boot: BootLock,
    host: Host,
}

/// A file that is locked until this is dropped. Closing it would not be enough: a child that another
/// thread is just starting has it open too, until it executes its program.
#[derive(Debug)]
struct Locked(File);

impl Drop for Locked {
    fn drop(&mut self) {
        // The kernel unlocks it all the same once nobody has it open.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl Lock {
    /// Takes both locks without waiting.
    ///
    /// # Errors
    /// [`Refusal::Busy`] with the holder's process id.
    pub fn acquire(host: &Host) -> Result<Self> {
        let operation = lock(host, "lock")?;
        Ok(Lock { operation, boot: BootLock::acquire(host)?, host: host.clone() })
    }

    /// Takes both locks once no other operation has them, which the report says. A timer may start
    /// several operations at once.
    ///
    /// # Errors
    /// [`Refusal::Busy`] after six hours, and [`Error::Interrupted`].
    pub fn wait(host: &Host, report: &mut dyn Report) -> Result<Self> {
        let since = Instant::now();
        let mut is_said = false;
        loop {
            match Self::acquire(host) {
                Err(Error::Refused(Refusal::Busy { pid, .. })) if since.elapsed() < PATIENCE => {
                    if !is_said {
                        let hours = PATIENCE.as_secs() / 3600;
                        let line = format!("waiting for process {pid}, at most {hours} hours");
                        report.part(&line);
                        is_said = true;
                    }
                }
                other => {
                    if is_said {
                        report.ended();
                    }
                    return other;
                }
            }
            go_on()?;
            std::thread::sleep(PAUSE);
        }
    }

    /// Notes what the operation does, for those who ask ([`holder_of_operation`]).
    pub fn note(&self, in_progress: InProgress) {
        // Without it `be cancel` does not find the operation, which goes on.
        if let Err(why) = holder::write(&self.host, &self.operation.0, Some(in_progress)) {
            log::warn!("{why}");
        }
    }

    /// Does something that writes no boot entry and no loader file. Meanwhile,
    /// [`BootLock::acquire`] succeeds.
    ///
    /// # Errors
    /// As flock(2).
    pub fn without_boot_lock<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        self.boot.unlocked(work).map(|(result, _)| result)
    }

    /// Shows the plan and asks, which may take hours. Returns whether to go on.
    ///
    /// # Errors
    /// Those of [`Report::confirm`], and [`Refusal::BootEntriesChanged`] if a program changed the
    /// boot entries meanwhile: the plan may no longer be true.
    pub fn confirm(&self, report: &mut dyn Report, plan: &Plan) -> Result<bool> {
        self.boot.confirm(report, plan)
    }
}

/// The process whose operation is in progress. To look keeps no other one from beginning.
///
/// # Errors
/// The file of the lock cannot be opened.
pub fn holder_of_operation(host: &Host) -> Result<Option<Holder>> {
    Ok(holder::now(host, &open(host, "lock")?))
}

/// The lock of the boot entries and loader files.
#[derive(Debug)]
pub struct BootLock {
    file: Locked,
    host: Host,
}

impl BootLock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`Refusal::Busy`] with the holder's process id.
    pub fn acquire(host: &Host) -> Result<Self> {
        lock(host, "boot-lock").map(|file| BootLock { file, host: host.clone() })
    }

    /// As [`Lock::confirm`].
    ///
    /// # Errors
    /// Those of [`Lock::confirm`].
    pub fn confirm(&self, report: &mut dyn Report, plan: &Plan) -> Result<bool> {
        let (answer, taken_by) = self.unlocked(|| report.confirm(plan))?;
        match (answer?, taken_by) {
            (true, Some(pid)) => Err(Refusal::BootEntriesChanged { pid }.into()),
            (answer, _) => Ok(answer),
        }
    }

    /// Does something while the lock is free. Also returns the process id of the last program that
    /// held it meanwhile.
    fn unlocked<T>(&self, work: impl FnOnce() -> T) -> Result<(T, Option<String>)> {
        let doing = || "locking the boot entries again".to_owned();
        let file = &self.file.0;
        flock(file, FlockOperation::Unlock).doing(doing)?;
        let result = work();
        loop {
            match flock(file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                locked => break locked.doing(doing)?,
            }
        }
        let last = holder::last(file);
        let is_other = last != std::process::id().to_string();
        if is_other {
            holder::write(&self.host, file, None)?;
        }
        Ok((result, is_other.then_some(last)))
    }
}

fn open(host: &Host, name: &str) -> Result<File> {
    let path = host.work_directory("")?.join(name);
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).open(&path).at("opening", &path)
}

fn lock(host: &Host, name: &str) -> Result<Locked> {
    let file = open(host, name)?;
    let doing = || format!("locking {name}");
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let (what, pid) = ("this machine".into(), holder::last(&file));
            return Err(Refusal::Busy { what, pid }.into());
        }
        Err(error) => return Err(error).doing(doing),
    }
    let file = Locked(file);
    holder::write(host, &file.0, None)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_second_operation_is_refused_with_the_process_id_of_the_first() {
        let run = tempfile::tempdir().unwrap();
        let host = Host { run: run.path().into(), ..Host::local() };
        let held = Lock::acquire(&host).unwrap();
        match Lock::acquire(&host) {
            Err(Error::Refused(Refusal::Busy { pid, .. })) => {
                assert_eq!(pid, std::process::id().to_string())
            }
            other => panic!("{other:?}"),
        }
        drop(held);
        Lock::acquire(&host).unwrap();
    }

    #[test]
    fn who_has_the_lock_and_for_what_is_seen_without_taking_it() {
        let run = tempfile::tempdir().unwrap();
        let host = Host { run: run.path().into(), ..Host::local() };
        let holder = || holder_of_operation(&host).unwrap();
        assert_eq!(holder(), None);
        let held = Lock::acquire(&host).unwrap();
        let found = holder().unwrap();
        assert_eq!(found.pid.unsigned_abs(), std::process::id());
        assert_eq!(found.in_progress, None, "it does not know yet");
        let in_progress = InProgress { verb: "refresh".into(), id: None, reference: "b".into() };
        held.note(in_progress.clone());
        assert_eq!(holder(), Some(Holder { in_progress: Some(in_progress), ..found.clone() }));
        // A process that died, and another one with its id that has the file open.
        let file = run.path().join("lifeboat/lock");
        let text = std::fs::read_to_string(&file).unwrap();
        let started = found.started.to_string();
        std::fs::write(&file, text.replace(&started, "1")).unwrap();
        assert_eq!(holder(), Some(found), "what another process noted is not what this one does");
        drop(held);
        let _open = open(&host, "lock").unwrap();
        assert_eq!(holder(), None, "it is open and not locked");
    }

    #[test]
    fn looking_at_the_lock_keeps_nobody_from_taking_it() {
        let run = tempfile::tempdir().unwrap();
        let host = Host { run: run.path().into(), ..Host::local() };
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    holder_of_operation(&host).unwrap();
                }
            });
            let taken = (0..2000).all(|_| Lock::acquire(&host).is_ok());
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(taken);
        });
    }

    #[test]
    fn an_unattended_operation_waits_for_the_one_that_is_in_progress_and_says_so() {
        #[derive(Default)]
        struct Parts(Vec<String>);
        impl Report for Parts {
            fn confirm(&mut self, _: &Plan) -> Result<bool> {
                Ok(true)
            }
            fn step(&mut self, _: usize, _: &str) {}
            fn part(&mut self, line: &str) {
                self.0.push(line.into());
            }
            fn progress(&mut self, _: &crate::plan::Progress) {}
            fn warn(&mut self, _: &str) {}
        }
        let run = tempfile::tempdir().unwrap();
        let host = Host { run: run.path().into(), ..Host::local() };
        let held = Lock::acquire(&host).unwrap();
        let mut said = Parts::default();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(300));
                drop(held);
            });
            drop(Lock::wait(&host, &mut said).unwrap());
        });
        let pid = std::process::id();
        assert_eq!(said.0, [format!("waiting for process {pid}, at most 6 hours")]);
        said.0.clear();
        drop(Lock::wait(&host, &mut said).unwrap());
        assert!(said.0.is_empty());
    }

    #[test]
    fn a_command_in_a_boot_environment_does_not_keep_a_trial_from_being_confirmed() {
        let run = tempfile::tempdir().unwrap();
        let host = Host { run: run.path().into(), ..Host::local() };
        let is_busy =
            |result: Result<()>| matches!(result, Err(Error::Refused(Refusal::Busy { .. })));
        let held = Lock::acquire(&host).unwrap();
        let confirm = || BootLock::acquire(&host).map(drop);
        let operation = || Lock::acquire(&host).map(drop);
        assert!(is_busy(confirm()) && is_busy(operation()), "any other operation");
        held.without_boot_lock(|| {
            confirm().unwrap();
            assert!(is_busy(operation()), "a second one");
        })
        .unwrap();
        assert!(is_busy(confirm()));
        drop(held);
        let confirming = BootLock::acquire(&host).unwrap();
        assert!(is_busy(operation()));
        drop(confirming);
        operation().unwrap();
    }

    #[test]
    fn an_answer_counts_only_for_the_boot_entries_of_its_plan() {
        let run = tempfile::tempdir().unwrap();
        let host = Host { run: run.path().into(), ..Host::local() };
        let held = Lock::acquire(&host).unwrap();
        let mut asked =
            Asked { answer: true, meanwhile: &|| drop(BootLock::acquire(&host).unwrap()) };
        assert!(
            held.confirm(&mut asked, &Plan::default()).unwrap(),
            "this process changed nothing"
        );
        let file = run.path().join("lifeboat/boot-lock");
        let confirmed = || std::fs::write(&file, "1\n").unwrap();
        asked.meanwhile = &confirmed;
        match held.confirm(&mut asked, &Plan::default()) {
            Err(Error::Refused(Refusal::BootEntriesChanged { pid })) => assert_eq!(pid, "1"),
            other => panic!("{other:?}"),
        }
        asked.answer = false;
        assert!(!held.confirm(&mut asked, &Plan::default()).unwrap());
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.starts_with(&format!("{}\n", std::process::id())), "{text}");
    }

    /// A user who answers after something else has happened.
    struct Asked<'a> {
        answer: bool,
        meanwhile: &'a dyn Fn(),
    }

    impl Report for Asked<'_> {
        fn confirm(&mut self, _: &Plan) -> Result<bool> {
            (self.meanwhile)();
            Ok(self.answer)
        }
        fn step(&mut self, _: usize, _: &str) {}
        fn progress(&mut self, _: &crate::plan::Progress) {}
        fn warn(&mut self, _: &str) {}
    }
}
