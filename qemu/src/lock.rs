//! Locks for the whole host. An emulated machine keeps a processor busy, so no more machines run at
//! a time than there are processors, whichever checkout or user started them.

use crate::{Error, Result, deadline};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// The most machines at a time, because they also share the disk.
const MAX_MACHINES: usize = 4;

/// How many machines may run at a time on this host, at least one.
pub fn machines_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, |processors| processors.get().min(MAX_MACHINES))
}

/// One of the locks, held while a machine runs. It is released when dropped, and by the kernel when
/// the process ends.
pub(crate) struct MachineLock {
    _file: Flock<File>,
}

impl MachineLock {
    /// Waits for one of the locks. One thread must not hold two machines at a time.
    pub(crate) fn acquire() -> Result<MachineLock> {
        Self::acquire_one_of(machines_at_once(), &std::env::temp_dir(), deadline(45 * 60))
    }

    fn acquire_one_of(locks: usize, directory: &Path, limit: Duration) -> Result<MachineLock> {
        // Blocking calls keep their place in the kernel's queues, while polling could starve. They
        // run in threads because of the limit. A lock that arrives after it is dropped at once.
        let (sender, receiver) = mpsc::channel();
        for number in 0..locks {
            let path = directory.join(format!("lifeboat-vm-{number}.lock"));
            let file = open(&path).map_err(Error::io(|| format!("opening {}", path.display())))?;
            let sender = sender.clone();
            std::thread::spawn(move || {
                let locked = Flock::lock(file, FlockArg::LockExclusive);
                // Sending fails if the limit has passed.
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

/// Opens a lock file. Opening it for reading is enough to lock it. It may belong to another user,
/// and not even root may open such a file in a sticky directory with O_CREAT (proc(5),
/// `protected_regular`).
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
    fn when_all_locks_are_held_the_next_machine_waits() {
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
