//! The only program of the rescue image: `/init`, as PID 1 and as its children, and `/bin/be`.
//!
//! Public is what `fuzz/` needs besides [`run`]: the parsers.

mod child;
pub mod cmdline;
pub mod consoles;
mod firmware;
pub mod glob;
mod hardware;
mod log;
mod menu;
pub mod modules;
mod mounts;
mod named;
mod power;
pub mod scan;
mod spcr;
mod supervisor;
mod sys;
pub mod uevent;
mod unattended;
mod watchdog;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::FromArgs;

/// Run one part of the rescue image by hand. As PID 1, this program runs them all.
#[derive(FromArgs)]
struct Arguments {
    #[argh(subcommand)]
    child: Child,
}

#[derive(FromArgs)]
#[argh(subcommand)]
enum Child {
    Menu(Menu),
    Hardware(Hardware),
    Scan(Scan),
    Unattended(Unattended),
    Release(Release),
    Watchdog(Watchdog),
}

/// Show the boot environments on this terminal.
#[derive(FromArgs)]
#[argh(subcommand, name = "menu")]
struct Menu {
    /// name of the terminal, shown in the title
    #[argh(option, default = "String::from(\"terminal\")")]
    console: String,
    /// directory that holds the list of boot environments
    #[argh(option, default = "PathBuf::from(scan::DIRECTORY)")]
    directory: PathBuf,
    /// program to run as be
    #[argh(option, default = "String::from(\"be\")")]
    be: String,
}

/// Load kernel modules for all devices, including those that appear later.
#[derive(FromArgs)]
#[argh(subcommand, name = "hardware")]
struct Hardware {}

/// Scan all disks for boot environments once.
#[derive(FromArgs)]
#[argh(subcommand, name = "scan")]
struct Scan {
    /// directory that holds the list of boot environments
    #[argh(option, default = "PathBuf::from(scan::DIRECTORY)")]
    directory: PathBuf,
    /// program to run as be
    #[argh(option, default = "String::from(\"be\")")]
    be: String,
}

/// Run the commands given on the kernel command line.
#[derive(FromArgs)]
#[argh(subcommand, name = "unattended")]
struct Unattended {}

/// Sync and unmount all disks before the machine shuts down.
#[derive(FromArgs)]
#[argh(subcommand, name = "release")]
struct Release {}

/// Feed the machine's watchdog, so that the machine restarts if the kernel hangs.
#[derive(FromArgs)]
#[argh(subcommand, name = "watchdog")]
struct Watchdog {}

/// Runs the part that the arguments of this process name.
pub fn run() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match name(&arguments).as_str() {
        "modprobe" => hardware::modprobe(text(arguments).skip(1)),
        name if name == "be" || name.starts_with("lu") || is_internal(&arguments) => {
            be_tools::cli::run(arguments)
        }
        _ if std::process::id() == 1 => supervisor::run(),
        _ => child(argh::from_env()),
    }
}

fn child(arguments: Arguments) -> ExitCode {
    match arguments.child {
        Child::Menu(menu) => menu::run(&menu.console, &menu.directory, &menu.be),
        Child::Hardware(Hardware {}) => hardware::run(),
        Child::Scan(scan) => {
            log::start("scan");
            scan::run(&scan.directory, &scan.be)
        }
        Child::Unattended(Unattended {}) => unattended::run(),
        Child::Release(Release {}) => power::release(),
        Child::Watchdog(Watchdog {}) => watchdog::run(),
    }
}

/// The name that this program was started under.
fn name(arguments: &[OsString]) -> String {
    let name = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Whether `be` started a part of itself through `/proc/self/exe`, under which the name is lost.
fn is_internal(arguments: &[OsString]) -> bool {
    arguments.get(1).is_some_and(|verb| verb.to_string_lossy().starts_with("internal-"))
}

fn text(arguments: Vec<OsString>) -> impl Iterator<Item = String> {
    arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_last_component_of_the_path() {
        for (argument, expected) in
            [("/bin/be", "be"), ("lustatus", "lustatus"), ("/init", "init"), ("/", "")]
        {
            assert_eq!(name(&[argument.into()]), expected);
        }
    }
}
