//! The command itself, as a child of PID 1.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;

use rustix::fs::Mode;

use super::arguments::Arguments;
use super::signals::{self, End};
use super::terminal::Relay;
use crate::error::{Doing, Error, Result};
use crate::escape::complain;
use crate::sys;

/// Environment variables of the caller that are passed to the command.
const PASSED_VARIABLES: [&str; 10] = [
    "TERM",
    "DEBIAN_FRONTEND",
    "http_proxy",
    "https_proxy",
    "ftp_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "SOURCE_DATE_EPOCH",
];

/// Runs the command to its end. `relay` is its terminal, if it has one.
///
/// # Errors
/// There is no command, or its terminal cannot be given to it.
pub(super) fn run(arguments: &Arguments, relay: Option<Relay>) -> Result<u8> {
    let Some((program, words)) = arguments.command.split_first() else {
        return Err(Error::Usage("no command to run".into()));
    };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    // The terminal that PID 1 relays is the command's by its standard streams only.
    sys::close_on_exec_from(3).doing(|| "closing files".into())?;
    let mut command = Command::new(program);
    command
        .args(words)
        .env_clear()
        .envs(PASSED_VARIABLES.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/root")
        .env("USER", "root")
        .env("LOGNAME", "root")
        .env("SHELL", "/bin/sh")
        .env("LANG", "C.UTF-8")
        .current_dir("/");
    if !arguments.interactive && std::env::var_os("DEBIAN_FRONTEND").is_none() {
        command.env("DEBIAN_FRONTEND", "noninteractive");
    }
    match &relay {
        Some(relay) => relay.give_to(&mut command)?,
        // A session of its own is also a process group, to which signals are passed on.
        None => sys::lead_session(&mut command, None),
    }
    let child = match command.spawn() {
        Ok(child) => child,
        Err(why) => {
            complain(&format!("{}: {why}", OsStr::new(program).display()));
            return Ok(if why.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    drop(command);
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let group = nix::unistd::Pid::from_raw(-pid.as_raw());
    let Some(mut relay) = relay else {
        let idle = || std::thread::sleep(signals::TICK);
        let receiver = if arguments.ends_by_itself { pid } else { group };
        return Ok(status(signals::pass_until_end(pid, receiver, &signals::ALL, idle)));
    };
    relay.begin();
    // The relay waits by itself, until there is something to move.
    let end = signals::pass_until_end(pid, group, &signals::ALL, || {
        relay.turn(Duration::from_millis(20));
    });
    // What is left in the background must not go on printing. This fails if nothing is.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::SIGKILL);
    relay.finish();
    Ok(status(end))
}

/// The exit status, as that of a shell: 128 plus the number of the signal if one killed it.
fn status(end: End) -> u8 {
    match end {
        End::Exited(status) => status,
        End::Killed(signal) => 128u8.saturating_add(signal),
    }
}
