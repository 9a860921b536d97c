//! All `unsafe` code of this crate.
#![allow(unsafe_code, reason = "system calls without a safe wrapper")]

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};

/// Makes the program start with no signal blocked, whatever this process has blocked.
pub fn unblock_signals(command: &mut Command) -> &mut Command {
    let prepare = || Ok(sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?);
    // SAFETY: the closure runs in the child between fork and exec. It makes one system call on a
    // set that lies on its stack, and neither allocates nor takes a lock.
    unsafe { command.pre_exec(prepare) }
}

/// The bytes that a terminal has taken and not sent yet (TIOCOUTQ of ioctl_tty(2)); `None` if it is
/// no terminal.
pub fn unsent(terminal: &File) -> Option<i32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the kernel writes one `int`.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    (result == 0).then_some(bytes)
}

/// Makes the program the leader of a new session, with its standard input as the session's
/// terminal.
pub fn lead_session_on_stdin(command: &mut Command) -> &mut Command {
    let prepare = || {
        rustix::process::setsid()?;
        rustix::process::ioctl_tiocsctty(rustix::stdio::stdin())?;
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec. It makes two system calls and
    // neither allocates nor takes a lock, so it is safe after a fork in a multi-threaded process.
    unsafe { command.pre_exec(prepare) }
}
