//! `lifeboat.run="be …"`: commands of the kernel command line, run without user interaction.

use std::fs;
use std::io::{self, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitCode, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use be_tools::escape::printable;

use crate::cmdline::{Options, command_words};
use crate::consoles::Consoles;
use crate::scan::{Claim, DIRECTORY};
use crate::{child, hardware, log as kernel_log};

/// How long disks may take to appear: USB storage and hubs wait for their devices.
const DISK_TIMEOUT: Duration = Duration::from_secs(20);
/// How long no disk may have appeared before the commands run.
const QUIET_TIME: Duration = Duration::from_secs(2);

/// Runs the commands of the kernel command line and prints the exit status of each.
pub fn run() -> ExitCode {
    kernel_log::start("unattended");
    let mut consoles = Consoles::open();
    wait_for_disks();
    for command in Options::read().run {
        consoles.say(&format!("# {}\n", printable(&command)));
        let report_line = match run_on(&command, &mut consoles) {
            Ok(status) => report(&command, status),
            Err(error) => format!("lifeboat: \"{command}\" cannot be started: {error}"),
        };
        log::info!("{report_line}");
        consoles.say(&format!("\n{}\n", printable(&report_line)));
    }
    ExitCode::SUCCESS
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
fn wait_for_disks() {
    let started = Instant::now();
    let mut disks = Vec::new();
    let mut quiet_since = Instant::now();
    while started.elapsed() < DISK_TIMEOUT {
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
        DISK_TIMEOUT.as_secs()
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
