//! The list of boot environments. A scan runs `be list --json` in a child process and writes the
//! result to a file, which every menu reads. Actions of the menu have precedence: a scan is
//! abandoned when an action needs the disks, and repeated after it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use be_tools::environment::BootEnvironment;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::child::{OWN_PROGRAM, command};

/// The directory through which the processes of the rescue image communicate. `/run/lifeboat`
/// belongs to `be`.
pub const DIRECTORY: &str = "/run/rescue-init";

/// How long a scan of all disks may take. A failing disk can block for minutes.
const DEADLINE: Duration = Duration::from_secs(90);

/// The lock file that a scan holds exclusively and the actions that need the disks share.
const DISKS_LOCK: &str = "lock";

/// The lock file that the actions that wait for [`DISKS_LOCK`] share.
const WANTED_LOCK: &str = "wanted";

/// What `be list --json` prints.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Listing {
    /// The boot environments that were found.
    pub environments: Vec<BootEnvironment>,
    /// What could not be read.
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Listing {
    /// Parses the output of `be list --json`.
    ///
    /// # Errors
    /// It is not such a list.
    pub fn parse(output: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(output)
    }
}

/// The result of a scan.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scan {
    /// When it started, in milliseconds since boot.
    pub started: u64,
    /// The list, or why the scan failed.
    pub result: Result<Listing, String>,
}

/// Scans once and writes the result into `directory`.
pub fn run(directory: &Path, be: &str) -> ExitCode {
    let requested = since_boot();
    // The user waits for the list, but not for the modules of keyboards and CD drives. If this is
    // not permitted, the scan is only slower.
    let _ = rustix::process::nice(-15);
    let outcome =
        fs::create_dir_all(directory).and_then(|()| scan_when_free(directory, be, requested));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!(
                "{}: the list of boot environments cannot be written: {error}",
                directory.display()
            );
            ExitCode::FAILURE
        }
    }
}

fn scan_when_free(directory: &Path, be: &str, requested: u64) -> io::Result<()> {
    loop {
        let held = lock(directory, DISKS_LOCK, FlockOperation::LockExclusive)?;
        // While this one waited for the lock, another process may have completed a scan.
        if read(directory).is_some_and(|scan| scan.started > requested) {
            return Ok(());
        }
        let started = since_boot();
        let result = list(be, || {
            lock(directory, WANTED_LOCK, FlockOperation::NonBlockingLockExclusive)
                .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        });
        if let Some(result) = result {
            let unfinished = directory.join("list.new");
            fs::write(&unfinished, serde_json::to_vec(&Scan { started, result })?)?;
            return fs::rename(unfinished, directory.join("list.json"));
        }
        drop(held);
        // The actions that wait for the disks come first.
        lock(directory, WANTED_LOCK, FlockOperation::LockExclusive)?;
    }
}

/// Starts a scan in a child process.
///
/// # Errors
/// When the process cannot be started.
pub fn start(directory: &Path, be: &str) -> io::Result<Child> {
    command(OWN_PROGRAM)
        .arg("scan")
        .arg("--directory")
        .arg(directory)
        .args(["--be", be])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Ctrl-C on the terminal must not end it.
        .process_group(0)
        .spawn()
}

/// Reads the result of the last scan, if there is one.
pub fn read(directory: &Path) -> Option<Scan> {
    serde_json::from_slice(&fs::read(directory.join("list.json")).ok()?).ok()
}

/// A claim to the disks. While one exists, a running scan is abandoned.
#[derive(Debug)]
pub struct Claim {
    directory: PathBuf,
    _wanted: File,
}

impl Claim {
    /// Announces the claim.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn new(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let wanted = lock(directory, WANTED_LOCK, FlockOperation::LockShared)?;
        Ok(Claim { directory: directory.to_owned(), _wanted: wanted })
    }

    /// Tries to take the lock, which prevents scans until the file is closed. Returns `None` while
    /// a scan is still running.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn attempt(&self) -> io::Result<Option<File>> {
        match lock(&self.directory, DISKS_LOCK, FlockOperation::NonBlockingLockShared) {
            Ok(held) => Ok(Some(held)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for a running scan to end, then takes the lock.
    ///
    /// # Errors
    /// When the lock file cannot be created.
    pub fn wait(self) -> io::Result<File> {
        lock(&self.directory, DISKS_LOCK, FlockOperation::LockShared)
    }
}

fn lock(directory: &Path, name: &str, operation: FlockOperation) -> io::Result<File> {
    let file = File::create(directory.join(name))?;
    flock(&file, operation)?;
    Ok(file)
}

/// Milliseconds since boot.
fn since_boot() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// Runs `be list --json`. Returns `None` if it was killed because an action needs the disks. It
/// only reads, and its mounts are private, so it can be killed at any time.
fn list(be: &str, is_wanted: impl Fn() -> bool) -> Option<Result<Listing, String>> {
    let line = format!("{be} list --json");
    let started = command(be)
        .args(["list", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Some(Err(format!("`{line}` cannot be started: {error}"))),
    };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Some(Err(format!("`{line}`: no pipes")));
    };
    let (output, stderr) = (collect(stdout), collect(stderr));
    let end = Instant::now() + DEADLINE;
    let output = loop {
        let abandoned = match output.recv_timeout(Duration::from_millis(50)) {
            Ok(output) => break output,
            Err(RecvTimeoutError::Timeout) if is_wanted() => None,
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => continue,
            Err(_) => Some(Err(format!(
                "`{line}` took longer than {} seconds and was killed",
                DEADLINE.as_secs()
            ))),
        };
        kill(&mut child);
        return abandoned;
    };
    Some(parse(&line, child.wait(), &output, &stderr))
}

/// Kills a child and waits for it at most a second: a process that waits for a dead disk does not
/// exit and is left behind.
fn kill(child: &mut Child) {
    let _ = child.kill();
    for _ in 0..100 {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Parses the output of `be list --json`, or makes a message of its failure.
fn parse(
    command: &str,
    status: io::Result<ExitStatus>,
    output: &[u8],
    stderr: &mpsc::Receiver<Vec<u8>>,
) -> Result<Listing, String> {
    let status = status.map_err(|error| format!("`{command}`: {error}"))?;
    let stderr = stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    let stderr = String::from_utf8_lossy(&stderr).trim().replace('\n', " / ");
    match Listing::parse(output) {
        Ok(listing) => Ok(listing),
        Err(_) if !status.success() => Err(format!("`{command}` failed ({status}): {stderr}")),
        Err(error) => Err(format!("`{command}` printed an invalid list: {error}")),
    }
}

/// Reads to the end in a new thread.
fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        // After an error, what was read so far is still useful.
        let _ = from.read_to_end(&mut all);
        let _ = sender.send(all);
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fake_be(directory: &Path, script: &str) -> String {
        let path = directory.join("be");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_string_lossy().into_owned()
    }

    fn result_of(script: &str) -> Result<Listing, String> {
        let directory = tempfile::tempdir().unwrap();
        let be = fake_be(directory.path(), script);
        run(directory.path(), &be);
        read(directory.path()).unwrap().result
    }

    #[test]
    fn the_list_is_read_from_the_output_of_be() {
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/list.json");
        let listing = result_of(&format!("test \"$*\" = 'list --json' && cat {fixture}")).unwrap();
        assert_eq!(listing.environments[0].name(), "bookworm");
        assert_eq!(listing.warnings.len(), 1);
    }

    #[test]
    fn a_valid_list_is_accepted_whatever_the_exit_status() {
        assert!(result_of("echo '{\"environments\":[]}'; exit 5").is_ok());
    }

    #[test]
    fn a_failure_is_reported_with_the_messages_of_be() {
        let error = result_of("echo 'warning: old' >&2; echo 'be: no room in /run' >&2; exit 1")
            .unwrap_err();
        let words = "be list --json` failed (exit status: 1): warning: old / be: no room in /run";
        assert!(error.ends_with(words), "{error}");
    }

    #[test]
    fn output_that_is_not_a_list_is_refused() {
        let error = result_of("echo '[1,2]'").unwrap_err();
        assert!(error.contains("invalid list"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), "/nowhere/be");
        let error = read(directory.path()).unwrap().result.unwrap_err();
        assert!(error.starts_with("`/nowhere/be list --json` cannot be started"), "{error}");
    }

    #[test]
    fn a_scan_waits_for_an_action() {
        let directory = tempfile::tempdir().unwrap();
        let held = Claim::new(directory.path()).unwrap().wait().unwrap();
        let attempt =
            || lock(directory.path(), DISKS_LOCK, FlockOperation::NonBlockingLockExclusive);
        assert!(attempt().is_err());
        drop(held);
        assert!(attempt().is_ok());
    }

    #[test]
    fn a_scan_is_abandoned_for_an_action_and_repeated_after_it() {
        let directory = tempfile::tempdir().unwrap();
        // The first scan hangs, as on a failing disk. The second finds nothing and ends
        // immediately.
        let script = "cd ${0%/*}; if mkdir scanned 2>/dev/null; then exec sleep 60; fi; echo \
            '{\"environments\":[]}'";
        let be = fake_be(directory.path(), script);
        let scan = thread::spawn({
            let directory = directory.path().to_owned();
            move || run(&directory, &be)
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        while !directory.path().join("scanned").exists() {
            assert!(Instant::now() < deadline, "no scan was started");
            thread::sleep(Duration::from_millis(10));
        }
        let claim = Claim::new(directory.path()).unwrap();
        assert!(claim.attempt().unwrap().is_none());
        let held = loop {
            assert!(Instant::now() < deadline, "the scan was not abandoned");
            if let Some(held) = claim.attempt().unwrap() {
                break held;
            }
            thread::sleep(Duration::from_millis(10));
        };
        drop(claim);
        assert!(read(directory.path()).is_none());
        drop(held);
        scan.join().unwrap();
        assert!(read(directory.path()).unwrap().result.is_ok());
    }
}
