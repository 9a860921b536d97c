//! The rescue image's one program: `/init` as PID 1 and its children, and `/bin/be`.

mod cmdline;
mod consoles;
mod glob;
mod hardware;
mod log;
mod menu;
mod modules;
mod mounts;
mod power;
mod scan;
mod supervisor;
mod sys;
mod uevent;
mod unattended;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use argh::FromArgs;

/// The rescue image's PID 1, started by hand: one of its children.
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
}

/// Show the boot environments on this terminal.
#[derive(FromArgs)]
#[argh(subcommand, name = "menu")]
struct Menu {
    /// the terminal's name, as the title shows it
    #[argh(option, default = "String::from(\"terminal\")")]
    console: String,
    /// where the list is kept
    #[argh(option, default = "PathBuf::from(scan::DIRECTORY)")]
    directory: PathBuf,
    /// the program that acts
    #[argh(option, default = "String::from(\"be\")")]
    be: String,
}

/// Load kernel modules for the devices that are there and that appear.
#[derive(FromArgs)]
#[argh(subcommand, name = "hardware")]
struct Hardware {}

/// Look for boot environments once.
#[derive(FromArgs)]
#[argh(subcommand, name = "scan")]
struct Scan {
    /// where the list is kept
    #[argh(option, default = "PathBuf::from(scan::DIRECTORY)")]
    directory: PathBuf,
    /// the program that lists
    #[argh(option, default = "String::from(\"be\")")]
    be: String,
}

/// Run the commands of the kernel command line.
#[derive(FromArgs)]
#[argh(subcommand, name = "unattended")]
struct Unattended {}

/// Write everything to disk and release the disks, before the machine ends.
#[derive(FromArgs)]
#[argh(subcommand, name = "release")]
struct Release {}

fn main() -> ExitCode {
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
        Child::Menu(it) => menu::run(&it.console, &it.directory, &it.be),
        Child::Hardware(Hardware {}) => hardware::run(),
        Child::Scan(it) => {
            log::start("scan");
            scan::run(&it.directory, &it.be)
        }
        Child::Unattended(Unattended {}) => unattended::run(),
        Child::Release(Release {}) => power::release(),
    }
}

/// What this program is called as.
fn name(arguments: &[OsString]) -> String {
    let called = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    called.to_string_lossy().into_owned()
}

/// `be` starts parts of itself through `/proc/self/exe`, which has no name.
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
    fn the_last_part_of_the_path_is_the_name() {
        for (argument, expected) in
            [("/bin/be", "be"), ("lustatus", "lustatus"), ("/init", "init"), ("/", "")]
        {
            assert_eq!(name(&[argument.into()]), expected);
        }
    }
}
