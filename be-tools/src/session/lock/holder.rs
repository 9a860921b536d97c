//! Which process has the lock of this machine, and what it does to which BE. The process writes it
//! into the lock's file; whether it still has the lock is looked up in proc(5), because an attempt
//! to take the lock could make that of another operation fail.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::environment::{BootEnvironment, Id};
use crate::error::{Doing, Result};
use crate::host::Host;

/// The most bytes of a lock's file that are read.
const MAX_BYTES: usize = 4096;

/// What an operation does, once it knows that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InProgress {
    /// The verb of `be`.
    pub verb: String,
    /// The id of the BE; `None` if it has none, or none yet.
    pub id: Option<Id>,
    /// What names the BE on a command line.
    pub reference: String,
}

impl InProgress {
    /// A verb that changes this BE.
    pub(crate) fn on(verb: &str, environment: &BootEnvironment) -> Self {
        InProgress {
            verb: verb.into(),
            id: environment.descriptor.as_ref().map(|d| d.id),
            reference: environment.reference.clone(),
        }
    }
}

/// The process that has the lock of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: i32,
    /// When it was started, in ticks since the machine was (`starttime` of proc_pid_stat(5)): another
    /// process that gets its id later has another time.
    pub started: u64,
    /// What it does. `None` if it is not known yet.
    pub in_progress: Option<InProgress>,
}

/// The second line of the lock's file. The first is the process id.
#[derive(Serialize, Deserialize)]
struct Details {
    started: u64,
    in_progress: InProgress,
}

/// Writes this process, and what it does, into the file of a lock that it has.
///
/// # Errors
/// As pwrite(2).
pub(super) fn write(host: &Host, file: &File, in_progress: Option<InProgress>) -> Result<()> {
    let pid = std::process::id();
    let started = i32::try_from(pid).ok().and_then(|pid| started(&host.proc, pid));
    let details = in_progress.zip(started).map(|(in_progress, started)| {
        serde_json::to_string(&Details { started, in_progress }).unwrap_or_default()
    });
    let text = format!("{pid}\n{}\n", details.unwrap_or_default());
    let written = file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0));
    written.doing(|| "writing the process into a lock".into())
}

/// The process id of the last program that had the lock, or "unknown".
pub(super) fn last(file: &File) -> String {
    let text = text(file);
    let pid = text.lines().next().unwrap_or_default().trim();
    let is_known = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    if is_known { pid.into() } else { "unknown".into() }
}

/// The process that has the lock of this file now.
pub(super) fn now(host: &Host, file: &File) -> Option<Holder> {
    let text = text(file);
    let mut lines = text.lines();
    let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
    if !has_locked(&host.proc, pid, file) {
        return None;
    }
    let started = started(&host.proc, pid)?;
    let details = lines.next().and_then(|line| serde_json::from_str::<Details>(line).ok());
    let own = details.filter(|details| details.started == started);
    Some(Holder { pid, started, in_progress: own.map(|details| details.in_progress) })
}

fn text(file: &File) -> String {
    let mut bytes = vec![0; MAX_BYTES];
    let length = file.read_at(&mut bytes, 0).unwrap_or_default();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// Whether a process has this file open and locked by flock(2): `lock:` in proc_pid_fdinfo(5).
fn has_locked(proc: &Path, pid: i32, file: &File) -> bool {
    let Ok(wanted) = file.metadata() else { return false };
    let process = proc.join(pid.to_string());
    let Ok(open) = std::fs::read_dir(process.join("fd")) else { return false };
    open.flatten().any(|entry| {
        let is_same = std::fs::metadata(entry.path())
            .is_ok_and(|found| (found.dev(), found.ino()) == (wanted.dev(), wanted.ino()));
        let info = || std::fs::read_to_string(process.join("fdinfo").join(entry.file_name()));
        is_same
            && info().is_ok_and(|info| {
                info.lines().any(|line| line.starts_with("lock:") && line.contains("FLOCK"))
            })
    })
}

/// `starttime` of proc_pid_stat(5): the 22nd field. The second is in parentheses, and may hold
/// anything.
fn started(proc: &Path, pid: i32) -> Option<u64> {
    let text = std::fs::read(proc.join(format!("{pid}/stat"))).ok()?;
    let text = String::from_utf8_lossy(&text);
    text.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_process_is_read_whatever_it_is_called() {
        let proc = tempfile::tempdir().unwrap();
        std::fs::create_dir(proc.path().join("7")).unwrap();
        let fields: Vec<String> = (4..=52).map(|field| (field * 100).to_string()).collect();
        let stat = format!("7 (a) S (b) S {}\n", fields.join(" "));
        std::fs::write(proc.path().join("7/stat"), stat).unwrap();
        assert_eq!(started(proc.path(), 7), Some(2200));
        assert_eq!(started(proc.path(), 8), None);
    }
}
