//! Booting a kernel from the running one: kexec_file_load(2), reboot(2).

use crate::sys;
use rustix::io::Errno;
use rustix::system::RebootCommand;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;

const LOADED: &str = "/sys/kernel/kexec_loaded";

/// Why a kernel was not loaded or started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line contains a NUL.
    #[error("kernel command line {0:?} contains a NUL")]
    CommandLine(String),
    /// kexec_file_load failed.
    #[error("loading a kernel with kexec: {source}{}", advice(.source))]
    Load {
        /// The kernel's error.
        source: io::Error,
    },
    /// reboot failed.
    #[error("starting the loaded kernel: {0}; load one first, as root")]
    Execute(io::Error),
    /// `kexec_loaded` cannot be read.
    #[error("reading {LOADED}: {0}")]
    State(io::Error),
}

fn advice(error: &io::Error) -> &'static str {
    let Some(errno) = Errno::from_io_error(error) else {
        return "";
    };
    match errno {
        Errno::PERM => {
            " (this needs root; if the kernel is locked down or has kexec_load_disabled=1, reboot \
            instead)"
        }
        Errno::NOEXEC => " (not a kernel for this machine)",
        Errno::NOSYS => " (this kernel has no kexec_file_load; reboot instead)",
        Errno::KEYREJECTED | Errno::NOKEY | Errno::BADMSG => {
            " (Secure Boot is on and the running kernel does not trust the new kernel's signature; \
            reboot instead)"
        }
        Errno::BUSY => " (another kexec is in progress)",
        Errno::NOMEM | Errno::ADDRNOTAVAIL => " (not enough contiguous memory; reboot instead)",
        Errno::INVAL => " (the kernel is damaged or the command line is too long)",
        _ => "",
    }
}

/// Loads a kernel that [`execute`] starts. Afterwards the files may be closed and their file system
/// unmounted.
///
/// # Errors
/// The running kernel refused to load it.
pub fn load(kernel: &File, initrd: Option<&File>, command_line: &str) -> Result<(), Error> {
    let line = CString::new(command_line);
    let line = line.map_err(|_| Error::CommandLine(command_line.to_owned()))?;
    sys::kexec_file_load(kernel, initrd, &line).map_err(|source| Error::Load { source })
}

/// Whether a kernel is loaded.
///
/// # Errors
/// sysfs is not mounted, or the running kernel does not support kexec.
pub fn loaded() -> Result<bool, Error> {
    let state = fs::read_to_string(LOADED).map_err(Error::State)?;
    Ok(state.trim() == "1")
}

/// Starts the loaded kernel immediately, after a sync. Nothing is shut down: the caller stops all
/// processes and unmounts file systems first.
///
/// # Errors
/// No kernel is loaded, or the caller is not privileged.
pub fn execute() -> Result<(), Error> {
    rustix::fs::sync();
    rustix::system::reboot(RebootCommand::Kexec).map_err(|e| Error::Execute(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is not a kernel is refused before anything changes.
    #[test]
    fn a_file_that_is_not_a_kernel_is_refused_with_advice() {
        let file = File::open("/dev/null").unwrap();
        let refused = load(&file, None, "quiet").unwrap_err();
        assert!(matches!(refused, Error::Load { .. }));
        assert!(refused.to_string().ends_with(')'), "{refused}");
        assert!(matches!(load(&file, None, "a\0b"), Err(Error::CommandLine(_))));
    }
}
