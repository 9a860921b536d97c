//! The machine-wide lock: emulated machines share few processors, so one runs at a time, whichever checkout or user it is of.

use crate::{Error, Result, deadline};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::mpsc;

/// Held while a machine runs; released when dropped, and by the kernel when the process ends.
pub(crate) struct MachineLock {
    _file: Flock<File>,
}

impl MachineLock {
    /// Waits for the lock. One thread must not hold two machines at a time.
    pub(crate) fn acquire() -> Result<MachineLock> {
        let path = lock_path();
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .mode(0o666)
            .open(&path)
            .map_err(Error::io(|| format!("opening {}", path.display())))?;
        let limit = deadline(45 * 60);
        // A blocking call keeps its place in the kernel's queue, where polling would starve; the thread is for the limit. When
        // nobody waits any more, the lock is dropped as it arrives.
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || sender.send(Flock::lock(file, FlockArg::LockExclusive)));
        match receiver.recv_timeout(limit) {
            Ok(Ok(mut held)) => {
                // Only a help for the person who wonders who holds it.
                let _ = held.set_len(0).and_then(|()| writeln!(held, "{}", std::process::id()));
                Ok(MachineLock { _file: held })
            }
            Ok(Err((_, error))) => {
                Err(Error::Io { doing: format!("locking {}", path.display()), source: error.into() })
            }
            Err(_) => Err(Error::Busy { path, waited: limit }),
        }
    }
}

fn lock_path() -> PathBuf {
    std::env::temp_dir().join("lifeboat-vm.lock")
}
