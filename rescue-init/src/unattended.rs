//! `lifeboat.run="be …"`: commands of the kernel command line, run without user interaction.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use be_tools::escape::printable;

use crate::cmdline::{AfterCommands, Options, command_words};
use crate::consoles::Consoles;
use crate::scan::{self, Claim, DIRECTORY};
use crate::{child, hardware, log as kernel_log, named};

/// How long disks may take to appear: USB storage and hubs wait for their devices.
const DISK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a BE that a command names may take to appear: SAS expanders and disks that spin up take
/// half a minute.
const ENVIRONMENT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long no disk may have appeared before the commands run.
const QUIET_TIME: Duration = Duration::from_secs(2);

/// How the commands ended, which is the exit status for PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All succeeded.
    Done,
    /// At least one failed.
    Failed,
    /// A key was pressed, so none was run.
    Stopped,
}

impl Ending {
    /// The ending that an exit status means. A process that was killed has none, and failed.
    pub fn from_status(status: Option<i32>) -> Self {
        match status {
            Some(0) => Ending::Done,
            Some(3) => Ending::Stopped,
            _ => Ending::Failed,
        }
    }

    fn exit_code(self) -> ExitCode {
        ExitCode::from(match self {
            Ending::Done => 0,
            Ending::Failed => 1,
            Ending::Stopped => 3,
        })
    }

    /// What comes after it.
    pub fn then(self, options: &Options) -> AfterCommands {
        match self {
            Ending::Done => options.then,
            Ending::Failed => options.then_on_failure.unwrap_or(options.then),
            Ending::Stopped => AfterCommands::Menu,
        }
    }
}

/// Runs the commands of the kernel command line and prints the exit status of each.
pub fn run() -> ExitCode {
    kernel_log::start("unattended");
    let options = Options::read();
    let mut consoles = Consoles::open();
    wait_for_disks(options.wait.unwrap_or(DISK_TIMEOUT));
    if options.countdown.is_some_and(|time| is_stopped(&options.run, time, &mut consoles)) {
        return Ending::Stopped.exit_code();
    }
    let mut ending = Ending::Done;
    let end = Instant::now() + options.wait.unwrap_or(ENVIRONMENT_TIMEOUT);
    wait_for_environments(&named::needed(&options.run), end, &mut consoles);
    for command in &options.run {
        consoles.say(&format!("# {}\n", printable(command)));
        let result = run_on(command, &mut consoles);
        if !result.as_ref().is_ok_and(ExitStatus::success) {
            ending = Ending::Failed;
        }
        let report_line = match result {
            Ok(status) => report(command, status),
            Err(error) => format!("lifeboat: \"{command}\" cannot be started: {error}"),
        };
        log::info!("{report_line}");
        consoles.say(&format!("\n{}\n", printable(&report_line)));
    }
    ending.exit_code()
}

/// Shows what will be run, and whether a key was pressed in that time.
fn is_stopped(commands: &[String], time: Duration, consoles: &mut Consoles) -> bool {
    for command in commands {
        consoles.say(&format!("# {}\n", printable(command)));
    }
    let seconds = time.as_secs();
    consoles.say(&format!("runs in {seconds} seconds. Press any key for the menu instead.\n"));
    consoles.forget_keys();
    let end = Instant::now() + time;
    while Instant::now() < end {
        if consoles.key_was_pressed() {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    false
}

/// Waits until these BEs are found, or until `end`.
fn wait_for_environments(references: &[String], end: Instant, consoles: &mut Consoles) {
    let mut is_announced = false;
    loop {
        let listing = scan::read(Path::new(DIRECTORY)).and_then(|scan| scan.result.ok());
        let is_listed =
            |reference: &str| listing.as_ref().is_some_and(|l| named::is_listed(l, reference));
        let missing: Vec<&str> = references
            .iter()
            .map(String::as_str)
            .filter(|reference| !is_listed(reference))
            .collect();
        if missing.is_empty() {
            return;
        }
        let missing = printable(&missing.join(", ")).into_owned();
        let Some(left) = end.checked_duration_since(Instant::now()) else {
            log::warn!("{missing} was not found on any disk; continuing without it");
            return;
        };
        if !std::mem::replace(&mut is_announced, true) {
            let seconds = left.as_secs();
            consoles.say(&format!("Waiting up to {seconds} seconds for {missing}.\n"));
        }
        sleep(Duration::from_millis(200).min(left));
    }
}

/// The line that reports the exit status of a command. If a signal killed it, that is 128 plus the
/// signal's number, as in a shell.
pub fn report(command: &str, status: ExitStatus) -> String {
    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    format!("lifeboat: \"{command}\" exited with status {code}")
}

fn run_on(command: &str, consoles: &mut Consoles) -> io::Result<ExitStatus> {
    let words = command_words(command);
    let Some((program, arguments)) = words.split_first() else {
        return Err(io::Error::other("the command is empty"));
    };
    let _quiet = Claim::new(Path::new(DIRECTORY)).and_then(Claim::wait);
    let (mut reader, writer) = io::pipe()?;
    let mut child = child::command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    // The command is dropped and with it our copies of the writer, so the pipe ends when the child
    // exits.
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut buffer) {
        consoles.write(&buffer[..length]);
    }
    child.wait()
}

/// Waits until the modules are loaded, every USB storage device has its disk, and no more disks
/// appear.
fn wait_for_disks(timeout: Duration) {
    let started = Instant::now();
    let mut disks = Vec::new();
    let mut quiet_since = Instant::now();
    while started.elapsed() < timeout {
        let now = names(Path::new("/sys/class/block"));
        let waiting = !Path::new(hardware::READY).exists()
            || !silent_usb_storage(Path::new("/sys")).is_empty();
        if now != disks || waiting {
            disks = now;
            quiet_since = Instant::now();
        }
        if quiet_since.elapsed() >= QUIET_TIME {
            return;
        }
        sleep(Duration::from_millis(100));
    }
    log::warn!(
        "disks are still missing after {} seconds; continuing without them",
        timeout.as_secs()
    );
}

/// USB storage interfaces whose driver has not found a disk yet.
fn silent_usb_storage(sys: &Path) -> Vec<String> {
    let drivers = ["usb-storage", "uas"].map(|driver| sys.join("bus/usb/drivers").join(driver));
    let interfaces =
        drivers.iter().flat_map(|driver| names(driver).into_iter().map(|name| driver.join(name)));
    interfaces
        .filter(|interface| interface.join("bInterfaceNumber").exists() && !has_disk(interface))
        .map(|interface| interface.display().to_string())
        .collect()
}

/// Whether `hostN/targetN:0:0/N:0:0:0/block` exists below the interface.
fn has_disk(interface: &Path) -> bool {
    let below = |directory: &Path, prefix: &'static str| {
        let directory = directory.to_owned();
        names(&directory)
            .into_iter()
            .filter(move |name| name.starts_with(prefix))
            .map(move |name| directory.join(name))
    };
    below(interface, "host")
        .flat_map(|host| below(&host, "target"))
        .flat_map(|target| below(&target, ""))
        .any(|unit| unit.join("block").exists())
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut all: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    all.sort();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_line_quotes_the_command() {
        let line = report("be boot second", ExitStatus::from_raw(3 << 8));
        assert_eq!(line, "lifeboat: \"be boot second\" exited with status 3");
        assert!(report("be list", ExitStatus::from_raw(9)).ends_with("status 137"));
    }

    #[test]
    fn what_follows_depends_on_how_the_commands_ended() {
        let options = Options::parse("lifeboat.then=reboot lifeboat.then-on-failure=menu");
        for (status, expected) in [
            (Some(0), AfterCommands::Reboot),
            (Some(1), AfterCommands::Menu),
            (None, AfterCommands::Menu),
        ] {
            assert_eq!(Ending::from_status(status).then(&options), expected, "{status:?}");
        }
        let options = Options::parse("lifeboat.then=reboot");
        assert_eq!(Ending::Failed.then(&options), AfterCommands::Reboot);
        assert_eq!(Ending::from_status(Some(3)).then(&options), AfterCommands::Menu);
    }

    #[test]
    fn a_usb_stick_is_waited_for_until_its_disk_appears() {
        let sys = tempfile::tempdir().unwrap();
        let interface = sys.path().join("bus/usb/drivers/usb-storage/1-1:1.0");
        fs::create_dir_all(interface.join("host0/scsi_host")).unwrap();
        fs::write(interface.join("bInterfaceNumber"), "00\n").unwrap();
        fs::create_dir_all(sys.path().join("bus/usb/drivers/usb-storage/module")).unwrap();
        assert_eq!(silent_usb_storage(sys.path()).len(), 1);
        fs::create_dir_all(interface.join("host0/target0:0:0/0:0:0:0/block/sda")).unwrap();
        assert!(silent_usb_storage(sys.path()).is_empty());
    }
}
