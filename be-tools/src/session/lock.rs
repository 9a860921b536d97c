//! The locks of this machine (flock(2) on files in `/run/lifeboat`): one allows one operation at a
//! time, the other one writer of boot entries and loader files. `be confirm` takes only the second,
//! so that a command that runs in another BE for hours does not keep a trial from being confirmed.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Doing, Refusal, Result};
use crate::host::Host;

/// The lock of an operation, with that of the boot entries. The kernel releases both when the
/// process dies.
#[derive(Debug)]
pub struct Lock {
    _operation: File,
    boot: BootLock,
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
        let doing = || "locking the boot entries again".to_owned();
        flock(&self.boot.file, FlockOperation::Unlock).doing(doing)?;
        let result = work();
        loop {
            match flock(&self.boot.file, FlockOperation::LockExclusive) {
                Err(rustix::io::Errno::INTR) => {}
                locked => return locked.doing(doing).map(|()| result),
            }
        }
    }
}

/// The lock of the boot entries and loader files.
#[derive(Debug)]
pub struct BootLock {
    file: File,
}

impl BootLock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`Refusal::Busy`] with the holder's process id.
    pub fn acquire(host: &Host) -> Result<Self> {
        lock(host, "boot-lock").map(|file| BootLock { file })
    }
}

fn lock(host: &Host, name: &str) -> Result<File> {
    let path = host.work_directory("")?.join(name);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .at("opening", &path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut pid = String::new();
            let _ = file.take(32).read_to_string(&mut pid);
            let pid = pid.trim();
            let known = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
            let pid = if known { pid.to_owned() } else { "unknown".into() };
            return Err(Refusal::Busy { what: "this machine".into(), pid }.into());
        }
        Err(error) => return Err(error).at("locking", &path),
    }
    let write_pid = |file: &mut File| -> std::io::Result<()> {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    write_pid(&mut file).at("writing", &path)?;
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
}
