//! All `unsafe` code of this program.
#![allow(unsafe_code, reason = "wait4 has no safe wrapper")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};

/// Waits for a process. Also returns the largest resident set, in KiB, of it and its children
/// (wait4(2), `ru_maxrss` of getrusage(2)).
pub fn wait(child: Child) -> std::io::Result<(ExitStatus, u64)> {
    let pid = libc::pid_t::try_from(child.id()).map_err(std::io::Error::other)?;
    let mut status = 0;
    loop {
        // SAFETY: a structure of integers, for which zero bytes are valid.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes one status and one usage. The child is consumed here, so that
        // nothing else waits for it.
        if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } == pid {
            return Ok((ExitStatus::from_raw(status), u64::try_from(usage.ru_maxrss).unwrap_or(0)));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
