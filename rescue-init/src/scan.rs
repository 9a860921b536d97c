//! The list of boot environments: made by `be list --json` in a process of its own, kept in a file, read by every
//! menu. Looking waits while an action runs, so that it never holds a device that the action needs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use be_tools::environment::BootEnvironment;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::supervisor::OURSELVES;

/// Where the parts of the rescue image tell each other what they know. `/run/lifeboat` is `be`'s own.
pub const FOLDER: &str = "/run/rescue-init";

/// How long a look at all disks may take. A disk that dies can block for minutes.
const DEADLINE: Duration = Duration::from_secs(90);

/// What `be list --json` prints.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Listing {
    /// What was found.
    pub environments: Vec<BootEnvironment>,
    /// What could not be looked at.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// The last look at the disks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scan {
    /// When it began, in milliseconds since the machine started.
    pub started: u64,
    /// The list, or why there is none.
    pub result: Result<Listing, String>,
}

/// Looks once and writes what it found into `folder`.
pub fn run(folder: &Path, be: &str) -> ExitCode {
    let asked = since_start();
    // Somebody waits for the list; modules for keyboards and CD drives can wait. Not allowed to hurry is no failure.
    let _ = rustix::process::nice(-5);
    let outcome = fs::create_dir_all(folder)
        .and_then(|()| lock(folder, FlockOperation::LockExclusive))
        .and_then(|_lock| {
            // Whoever waited for the lock may find that it was done meanwhile.
            if read(folder).is_some_and(|scan| scan.started > asked) {
                return Ok(());
            }
            let scan = Scan { started: since_start(), result: look(be) };
            let unfinished = folder.join("list.new");
            fs::write(&unfinished, serde_json::to_vec(&scan)?)?;
            fs::rename(unfinished, folder.join("list.json"))
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error!("{}: the list of boot environments cannot be kept: {why}", folder.display());
            ExitCode::FAILURE
        }
    }
}

/// Starts a look in a process of its own.
///
/// # Errors
/// When no process can be started.
pub fn start(folder: &Path, be: &str) -> io::Result<Child> {
    Command::new(OURSELVES)
        .arg("scan")
        .arg("--folder")
        .arg(folder)
        .args(["--be", be])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

/// What the last look found, if there was one.
pub fn read(folder: &Path) -> Option<Scan> {
    serde_json::from_slice(&fs::read(folder.join("list.json")).ok()?).ok()
}

/// Keeps others from looking at the disks as long as the file is kept open; waits for one that looks now.
///
/// # Errors
/// When the lock file cannot be made.
pub fn hold_off(folder: &Path) -> io::Result<File> {
    fs::create_dir_all(folder)?;
    lock(folder, FlockOperation::LockShared)
}

fn lock(folder: &Path, operation: FlockOperation) -> io::Result<File> {
    let file = File::create(folder.join("lock"))?;
    flock(&file, operation)?;
    Ok(file)
}

/// Milliseconds since the machine started.
fn since_start() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

fn look(be: &str) -> Result<Listing, String> {
    let command = format!("{be} list --json");
    let mut child = Command::new(be)
        .args(["list", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|why| format!("`{command}` cannot be started: {why}"))?;
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(format!("`{command}`: no pipes"));
    };
    let complaints = collect(stderr);
    let output = collect(stdout).recv_timeout(DEADLINE);
    let Ok(output) = output else {
        // A process that waits for a dead disk cannot be ended; it is left behind.
        let _ = child.kill();
        return Err(format!("`{command}` took longer than {} seconds and was ended", DEADLINE.as_secs()));
    };
    let status = child.wait().map_err(|why| format!("`{command}`: {why}"))?;
    let complaints = complaints.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    let complaints = String::from_utf8_lossy(&complaints);
    match serde_json::from_slice(&output) {
        Ok(listing) => Ok(listing),
        Err(_) if !status.success() => Err(format!("`{command}` failed ({status}): {}", complaints.trim())),
        Err(why) => Err(format!("`{command}` printed what cannot be understood: {why}")),
    }
}

/// Reads to the end in a thread of its own.
fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        // What was read before an error still says something.
        let _ = from.read_to_end(&mut all);
        let _ = sender.send(all);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake_be(folder: &Path, script: &str) -> String {
        let path = folder.join("be");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn result_of(script: &str) -> Result<Listing, String> {
        let folder = tempfile::tempdir().unwrap();
        let be = fake_be(folder.path(), script);
        run(folder.path(), &be);
        read(folder.path()).unwrap().result
    }

    #[test]
    fn the_list_is_what_be_printed() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/list.json");
        let listing = result_of(&format!("test \"$*\" = 'list --json' && cat {fixture}")).unwrap();
        assert_eq!(listing.environments[0].name(), "bookworm");
        assert_eq!(listing.warnings.len(), 1);
    }

    #[test]
    fn a_list_with_problems_is_a_list_whatever_the_exit_status() {
        assert!(result_of("echo '{\"environments\":[]}'; exit 5").is_ok());
    }

    #[test]
    fn a_failure_is_told_in_the_words_of_be() {
        let why = result_of("echo 'be: no room in /run' >&2; exit 1").unwrap_err();
        assert!(why.contains("be list --json` failed (exit status: 1): be: no room in /run"), "{why}");
    }

    #[test]
    fn what_is_not_a_list_is_refused() {
        let why = result_of("echo '[1,2]'").unwrap_err();
        assert!(why.contains("cannot be understood"), "{why}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let folder = tempfile::tempdir().unwrap();
        run(folder.path(), "/nowhere/be");
        let why = read(folder.path()).unwrap().result.unwrap_err();
        assert!(why.starts_with("`/nowhere/be list --json` cannot be started"), "{why}");
    }

    #[test]
    fn looking_waits_for_an_action() {
        let folder = tempfile::tempdir().unwrap();
        let held = hold_off(folder.path()).unwrap();
        let file = File::create(folder.path().join("lock")).unwrap();
        assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(held);
        assert!(flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
}
