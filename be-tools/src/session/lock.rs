//! The locks of this machine (flock(2) on files in `/run/lifeboat`): one allows one operation at a
//! time, the other one writer of boot entries and loader files. `be confirm` takes only the second.
//! It is free while an operation waits for an answer and in its long steps, so that neither keeps a
//! trial from being confirmed.

use std::fs::File;
use std::os::unix::fs::FileExt;

use rustix::fs::{FlockOperation, flock};

use crate::error::{Doing, Refusal, Result};
use crate::host::Host;
use crate::plan::{Plan, Report};

/// The lock of an operation, with that of the boot entries. The kernel releases both when the
/// process dies.
#[derive(Debug)]
pub struct Lock {
    _operation: Locked,
    boot: BootLock,
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
        Ok(Lock { _operation: operation, boot: BootLock::acquire(host)? })
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

/// The process id of the operation that is in progress. To look does not keep another one from
/// beginning, but for a moment.
///
/// # Errors
/// The lock cannot be opened.
pub fn holder_of_operation(host: &Host) -> Result<Option<i32>> {
    let file = Locked(open(host, "lock")?);
    match flock(&file.0, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(None),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(holder(&file.0).parse().ok()),
        Err(error) => Err(error).doing(|| "looking at the lock".into()),
    }
}

/// The lock of the boot entries and loader files.
#[derive(Debug)]
pub struct BootLock {
    file: Locked,
}

impl BootLock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`Refusal::Busy`] with the holder's process id.
    pub fn acquire(host: &Host) -> Result<Self> {
        lock(host, "boot-lock").map(|file| BootLock { file })
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
        let holder = holder(file);
        let is_other = holder != std::process::id().to_string();
        if is_other {
            write_holder(file).doing(doing)?;
        }
        Ok((result, is_other.then_some(holder)))
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
            let (what, pid) = ("this machine".into(), holder(&file));
            return Err(Refusal::Busy { what, pid }.into());
        }
        Err(error) => return Err(error).doing(doing),
    }
    let file = Locked(file);
    write_holder(&file.0).doing(doing)?;
    Ok(file)
}

/// The process id of the last program that had the lock, or "unknown".
fn holder(file: &File) -> String {
    let mut pid = [0; 32];
    let length = file.read_at(&mut pid, 0).unwrap_or_default();
    let pid = String::from_utf8_lossy(&pid[..length]).trim().to_owned();
    let is_known = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    if is_known { pid } else { "unknown".into() }
}

fn write_holder(file: &File) -> std::io::Result<()> {
    file.set_len(0)?;
    file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0)
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
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(holder_of_operation(&host).unwrap(), Some(own));
        drop(held);
        assert_eq!(holder_of_operation(&host).unwrap(), None);
        Lock::acquire(&host).unwrap();
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
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", std::process::id()));
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
