//! The lock that allows one operation at a time on this machine: flock(2) on `/run/lifeboat/lock`.

use std::fs::File;
use std::io::{Read, Seek, Write};

use rustix::fs::{FlockOperation, flock};

use crate::error::{Doing, Refusal, Result};
use crate::host::Host;

/// The lock, held while an operation writes. The kernel releases it when the process dies.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock without waiting.
    ///
    /// # Errors
    /// [`Refusal::Busy`] with the holder's process id.
    pub fn acquire(host: &Host) -> Result<Self> {
        let path = host.work_directory("")?.join("lock");
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
        Ok(Lock { _file: file })
    }
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
}
