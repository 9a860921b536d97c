//! The machine-wide locks: an emulated machine keeps a processor busy, so no more of them run at a
//! time than there are processors, whichever checkout or user they are of.

use crate::{Error, Result, deadline};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// More share a disk, not only processors.
const MOST: usize = 4;

/// How many machines run at a time on this one, at least one.
pub fn machines_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(MOST))
}

/// Held while a machine runs; released when dropped, and by the kernel when the process ends.
pub(crate) struct MachineLock {
    _file: Flock<File>,
}

impl MachineLock {
    /// Waits for one of the locks. One thread must not hold two machines at a time.
    pub(crate) fn acquire() -> Result<MachineLock> {
        Self::acquire_one_of(machines_at_once(), &std::env::temp_dir(), deadline(45 * 60))
    }

    fn acquire_one_of(locks: usize, directory: &Path, limit: Duration) -> Result<MachineLock> {
        // Blocking calls keep their place in the kernel's queues, where polling would starve; the
        // threads are for the limit. When nobody waits any more, a lock is dropped as it arrives.
        let (sender, receiver) = mpsc::channel();
        for number in 0..locks {
            let path = directory.join(format!("lifeboat-vm-{number}.lock"));
            let file = open(&path).map_err(Error::io(|| format!("opening {}", path.display())))?;
            let sender = sender.clone();
            std::thread::spawn(move || {
                let locked = Flock::lock(file, FlockArg::LockExclusive);
                // Nobody waits for what a failed send brings back.
                let _ = sender.send(locked.map_err(|(_, error)| Error::Io {
                    doing: format!("locking {}", path.display()),
                    source: error.into(),
                }));
            });
        }
        let timed_out =
            |_| Error::Busy { path: directory.join("lifeboat-vm-*.lock"), waited: limit };
        Ok(MachineLock { _file: receiver.recv_timeout(limit).map_err(timed_out)?? })
    }
}

/// Opened for reading, which is enough to lock it: it may be another user's, and in a sticky
/// directory not even root may open such a file with O_CREAT (proc(5), `protected_regular`).
fn open(path: &Path) -> std::io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o644)
            .open(path),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_run_as_there_are_locks_and_the_next_one_waits() {
        let directory = tempfile::tempdir().unwrap();
        let acquire =
            |limit| MachineLock::acquire_one_of(2, directory.path(), Duration::from_millis(limit));
        let (first, second) = (acquire(60_000).unwrap(), acquire(60_000).unwrap());
        assert!(matches!(acquire(100), Err(Error::Busy { .. })));
        drop(second);
        let _third = acquire(60_000).unwrap();
        drop(first);
        acquire(60_000).unwrap();
    }
}
