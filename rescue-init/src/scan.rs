//! The list of boot environments: made by `be list --json` in a process of its own, kept in a file,
//! read by every menu. Looking gives way to an action and waits until it has ended, so that it
//! never holds a device that the action needs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use be_tools::environment::BootEnvironment;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::supervisor::OURSELVES;

/// Where the parts of the rescue image tell each other what they know. `/run/lifeboat` is `be`'s
/// own.
pub const DIRECTORY: &str = "/run/rescue-init";

/// How long a look at all disks may take. A disk that dies can block for minutes.
const DEADLINE: Duration = Duration::from_secs(90);

/// Held by whoever looks at the disks, and shared by the actions that need them.
const DISKS: &str = "lock";

/// Shared by the actions that wait for [`DISKS`].
const WANTED: &str = "wanted";

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

/// Looks once and writes what it found into `directory`.
pub fn run(directory: &Path, be: &str) -> ExitCode {
    let asked = since_start();
    // Somebody waits for the list; modules for keyboards and CD drives can wait. Not allowed to
    // hurry is no failure.
    let _ = rustix::process::nice(-15);
    let outcome = fs::create_dir_all(directory).and_then(|()| look_when_free(directory, be, asked));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            log::error!(
                "{}: the list of boot environments cannot be kept: {why}",
                directory.display()
            );
            ExitCode::FAILURE
        }
    }
}

fn look_when_free(directory: &Path, be: &str, asked: u64) -> io::Result<()> {
    loop {
        let held = lock(directory, DISKS, FlockOperation::LockExclusive)?;
        // Whoever waited for the lock may find that it was done meanwhile.
        if read(directory).is_some_and(|scan| scan.started > asked) {
            return Ok(());
        }
        let started = since_start();
        let result = look(be, || {
            lock(directory, WANTED, FlockOperation::NonBlockingLockExclusive)
                .is_err_and(|why| why.kind() == io::ErrorKind::WouldBlock)
        });
        if let Some(result) = result {
            let unfinished = directory.join("list.new");
            fs::write(&unfinished, serde_json::to_vec(&Scan { started, result })?)?;
            return fs::rename(unfinished, directory.join("list.json"));
        }
        drop(held);
        // Those who want the disks have them first.
        lock(directory, WANTED, FlockOperation::LockExclusive)?;
    }
}

/// Starts a look in a process of its own.
///
/// # Errors
/// When no process can be started.
pub fn start(directory: &Path, be: &str) -> io::Result<Child> {
    Command::new(OURSELVES)
        .arg("scan")
        .arg("--directory")
        .arg(directory)
        .args(["--be", be])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Keys that end a command on the terminal are not for it.
        .process_group(0)
        .spawn()
}

/// What the last look found, if there was one.
pub fn read(directory: &Path) -> Option<Scan> {
    serde_json::from_slice(&fs::read(directory.join("list.json")).ok()?).ok()
}

/// A wish to have the disks without anybody who looks at them. A look that is under way ends while
/// there is one.
#[derive(Debug)]
pub struct Claim {
    directory: PathBuf,
    _wanted: File,
}

impl Claim {
    /// Makes the wish known.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn new(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let wanted = lock(directory, WANTED, FlockOperation::LockShared)?;
        Ok(Claim { directory: directory.to_owned(), _wanted: wanted })
    }

    /// Keeps others from looking at the disks as long as the file is kept open; `None` while
    /// somebody still does.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn attempt(&self) -> io::Result<Option<File>> {
        match lock(&self.directory, DISKS, FlockOperation::NonBlockingLockShared) {
            Ok(held) => Ok(Some(held)),
            Err(why) if why.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(why) => Err(why),
        }
    }

    /// The same, once nobody looks any more.
    ///
    /// # Errors
    /// When the lock file cannot be made.
    pub fn wait(self) -> io::Result<File> {
        lock(&self.directory, DISKS, FlockOperation::LockShared)
    }
}

fn lock(directory: &Path, name: &str, operation: FlockOperation) -> io::Result<File> {
    let file = File::create(directory.join(name))?;
    flock(&file, operation)?;
    Ok(file)
}

/// Milliseconds since the machine started.
fn since_start() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec.unsigned_abs() * 1000 + now.tv_nsec.unsigned_abs() / 1_000_000
}

/// `None` when it was ended because the disks are wanted. It reads and mounts nothing for others to
/// see, so it can be ended at any moment.
fn look(be: &str, is_wanted: impl Fn() -> bool) -> Option<Result<Listing, String>> {
    let command = format!("{be} list --json");
    let started = Command::new(be)
        .args(["list", "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(why) => return Some(Err(format!("`{command}` cannot be started: {why}"))),
    };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Some(Err(format!("`{command}`: no pipes")));
    };
    let (output, complaints) = (collect(stdout), collect(stderr));
    let end = Instant::now() + DEADLINE;
    let output = loop {
        let why = match output.recv_timeout(Duration::from_millis(50)) {
            Ok(output) => break output,
            Err(RecvTimeoutError::Timeout) if is_wanted() => None,
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => continue,
            Err(_) => Some(Err(format!(
                "`{command}` took longer than {} seconds and was ended",
                DEADLINE.as_secs()
            ))),
        };
        end_without_waiting(&mut child);
        return why;
    };
    Some(understand(&command, child.wait(), &output, &complaints))
}

/// A process that waits for a dead disk cannot be ended; it is left behind.
fn end_without_waiting(child: &mut Child) {
    let _ = child.kill();
    for _ in 0..100 {
        if matches!(child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// What it printed and how it ended, as a list.
fn understand(
    command: &str,
    status: io::Result<ExitStatus>,
    output: &[u8],
    complaints: &mpsc::Receiver<Vec<u8>>,
) -> Result<Listing, String> {
    let status = status.map_err(|why| format!("`{command}`: {why}"))?;
    let complaints = complaints.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
    let complaints = String::from_utf8_lossy(&complaints).trim().replace('\n', " / ");
    match serde_json::from_slice(output) {
        Ok(listing) => Ok(listing),
        Err(_) if !status.success() => Err(format!("`{command}` failed ({status}): {complaints}")),
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
        let why = result_of("echo 'warning: old' >&2; echo 'be: no room in /run' >&2; exit 1")
            .unwrap_err();
        let words = "be list --json` failed (exit status: 1): warning: old / be: no room in /run";
        assert!(why.ends_with(words), "{why}");
    }

    #[test]
    fn what_is_not_a_list_is_refused() {
        let why = result_of("echo '[1,2]'").unwrap_err();
        assert!(why.contains("cannot be understood"), "{why}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), "/nowhere/be");
        let why = read(directory.path()).unwrap().result.unwrap_err();
        assert!(why.starts_with("`/nowhere/be list --json` cannot be started"), "{why}");
    }

    #[test]
    fn looking_waits_for_an_action() {
        let directory = tempfile::tempdir().unwrap();
        let held = Claim::new(directory.path()).unwrap().wait().unwrap();
        let attempt = || lock(directory.path(), DISKS, FlockOperation::NonBlockingLockExclusive);
        assert!(attempt().is_err());
        drop(held);
        assert!(attempt().is_ok());
    }

    #[test]
    fn a_look_gives_way_to_an_action_and_is_made_after_it() {
        let directory = tempfile::tempdir().unwrap();
        // The first look hangs, as at a dying disk; the second finds nothing at once.
        let script = "cd ${0%/*}; if mkdir looked 2>/dev/null; then exec sleep 60; fi; echo \
            '{\"environments\":[]}'";
        let be = fake_be(directory.path(), script);
        let scan = thread::spawn({
            let directory = directory.path().to_owned();
            move || run(&directory, &be)
        });
        let soon = Instant::now() + Duration::from_secs(20);
        while !directory.path().join("looked").exists() {
            assert!(Instant::now() < soon, "nobody looked");
            thread::sleep(Duration::from_millis(10));
        }
        let claim = Claim::new(directory.path()).unwrap();
        assert!(claim.attempt().unwrap().is_none());
        let held = loop {
            assert!(Instant::now() < soon, "the look goes on");
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
