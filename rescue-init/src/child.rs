//! How PID 1 starts its children.

use std::process::Command;

/// Set for every child: PID 1 is this supervisor and accepts requests.
pub const SUPERVISED: &str = "LIFEBOAT_SUPERVISED";

/// The program of PID 1 and its children, wherever it is installed.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// Prepares a child that runs this program.
pub fn child(arguments: &[&str]) -> Command {
    with_environment(Command::new(OWN_PROGRAM), arguments)
}

pub fn with_environment(mut command: Command, arguments: &[&str]) -> Command {
    command
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("SHELL", "/bin/sh")
        .env("PS1", "rescue:\\w# ")
        .env("LC_ALL", "C.UTF-8")
        .env(SUPERVISED, "1")
        .current_dir("/root");
    command
}
