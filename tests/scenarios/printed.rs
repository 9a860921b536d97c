//! The command lines that the documents print, run as they are printed.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu::{Disk, Machine, Release, deadline};
use tests::prepared::debian;
use tests::table::Scenario;
use tests::{BeCommands, scenario};

pub const SCENARIOS: &[Scenario] = &[scenario!(every_printed_line_does_what_it_should)];

/// The lines, each with the exit status that is expected of it.
const LINES: &str = include_str!("printed_lines.txt");

fn every_printed_line_does_what_it_should(release: Release) -> Result<()> {
    let (_file, disk) = second_disk()?;
    let vm = debian(release).package("xfsprogs").build()?.machine()?.disk(disk).start()?;
    vm.ready()?;
    vm.install_be()?;
    // A person reads the plan and says yes. What has a terminal of its own is left again.
    vm.write("/run/answers", b"y\nexit 0\n")?;
    let mut wrong = Vec::new();
    for line in LINES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.split_once(' ').context("a line has two parts")? {
            ("-", _) => {}
            ("+", command) => drop(vm.run_within(&format!("cd /root; {command}"), deadline(900))?),
            (expected, command) => {
                let (status, printed) = typed(&vm, command)?;
                println!("{status} {command}");
                if status.to_string() != expected {
                    wrong.push(format!("{status}, not {expected}: {command}\n{printed}"));
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// A disk with two partitions, and its file, which goes when it is dropped.
pub(super) fn second_disk() -> Result<(tempfile::NamedTempFile, Disk)> {
    let file = tempfile::NamedTempFile::new()?;
    file.as_file().set_len(6 << 30)?;
    let made = Command::new("sgdisk")
        .args(["--new=1:0:+4G", "--new=2:0:+1500M"])
        .arg(file.path())
        .output()
        .context("starting sgdisk")?;
    ensure!(made.status.success(), "sgdisk: {}", String::from_utf8_lossy(&made.stdout));
    let disk = Disk::new(file.path());
    Ok((file, disk))
}

/// The exit status of a command on a terminal, and what it printed.
pub(super) fn typed(vm: &Machine, command: &str) -> Result<(i32, String)> {
    vm.write("/run/line", command.as_bytes())?;
    let typed = "cd /root; script -qec 'sh /run/line' /dev/null </run/answers >/run/printed 2>&1";
    let status = vm.try_run_within(typed, deadline(900))?.status;
    Ok((status, vm.run("tail -n 12 /run/printed")?.stdout))
}
