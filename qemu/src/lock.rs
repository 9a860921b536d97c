//! The machine-wide lock: emulated machines share few processors, so one runs at a time, whichever checkout or user it is of.

use crate::{Error, Result, deadline};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;

/// Held while a machine runs; released when dropped, and by the kernel when the process ends.
pub(crate) struct MachineLock {
    _file: Flock<File>,
}

impl MachineLock {
    /// Waits for the lock. One thread must not hold two machines at a time.
    pub(crate) fn acquire() -> Result<MachineLock> {
        let path = std::env::temp_dir().join("lifeboat-vm.lock");
        let file = open(&path).map_err(Error::io(|| format!("opening {}", path.display())))?;
        let limit = deadline(45 * 60);
        // A blocking call keeps its place in the kernel's queue, where polling would starve; the thread is for the limit. When
        // nobody waits any more, the lock is dropped as it arrives.
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(Flock::lock(file, FlockArg::LockExclusive)));
        match receiver.recv_timeout(limit) {
            Ok(Ok(held)) => Ok(MachineLock { _file: held }),
            Ok(Err((_, error))) => {
                Err(Error::Io { doing: format!("locking {}", path.display()), source: error.into() })
            }
            Err(_) => Err(Error::Busy { path, waited: limit }),
        }
    }
}

/// Opened for reading, which is enough to lock it: it may be another user's, and in a sticky folder not even root may open such a
/// file with O_CREAT (proc(5), `protected_regular`).
fn open(path: &Path) -> std::io::Result<File> {
    match File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            File::options().create(true).truncate(false).read(true).write(true).mode(0o644).open(path)
        }
        result => result,
    }
}
