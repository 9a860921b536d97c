//! How PID 1, the menu and their children start programs.

use std::ffi::OsStr;
use std::process::Command;

use crate::sys;

/// Set for every child: PID 1 is this supervisor and accepts requests.
pub const SUPERVISED: &str = "LIFEBOAT_SUPERVISED";

/// The program of PID 1 and its children, wherever it is installed.
pub const OWN_PROGRAM: &str = "/proc/self/exe";

/// A command that starts with no signal blocked. Every program of the rescue image is started by
/// one: PID 1 blocks the signals that it reads from a descriptor, and the menu those of the
/// terminal's keys. A child would inherit that, so that neither Ctrl-C nor SIGTERM reached it.
#[expect(clippy::disallowed_methods, reason = "this is what the others are to call")]
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    sys::unblock_signals(&mut command);
    command
}

/// Prepares a child that runs this program.
pub fn child(arguments: &[&str]) -> Command {
    with_environment(command(OWN_PROGRAM), arguments)
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

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

    /// The line `SigBlk` of proc_pid_status(5), as the child sees its own.
    fn blocked_in(mut child: Command) -> String {
        let script = ["-n", "s/^SigBlk:\\t//p", "/proc/self/status"];
        let output = child.args(script).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "to see that the signals are blocked")]
    fn a_child_inherits_no_blocked_signal() {
        let thread = std::thread::spawn(|| {
            sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None).unwrap();
            let with_environment = with_environment(command("sed"), &[]);
            [Command::new("sed"), command("sed"), with_environment].map(blocked_in)
        });
        let [plain, ours, with_environment] = thread.join().unwrap();
        assert_ne!(plain, "0000000000000000");
        assert_eq!([ours, with_environment], ["0000000000000000"; 2]);
    }
}
