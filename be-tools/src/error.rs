//! The errors of this library, grouped by what the caller does about them: by the exit status of
//! `be`.

mod refusal;

use std::io;
use std::path::{Path, PathBuf};

use crate::tool::ToolError;

pub use refusal::Refusal;

/// The result of every operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of an operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is not valid.
    #[error("{0}")]
    Usage(String),
    /// An invariant forbids the operation. Nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, to which path or device.
        doing: String,
        /// The error that the kernel returned.
        source: io::Error,
    },
    /// The content of a file or device does not parse.
    #[error("{path}: {why}", path = .path.display())]
    Format {
        /// The file or device.
        path: PathBuf,
        /// What is wrong with it, and what to do about it.
        why: String,
    },
    /// An external program failed.
    #[error(transparent)]
    Tool(ToolError),
    /// Firmware variables, loader files or the ESP could not be read or written.
    #[error("{doing}: {source}")]
    Boot {
        /// What was being done.
        doing: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// SIGINT or SIGTERM arrived. What has been written so far is marked as incomplete.
    #[error("interrupted; run the command again, or `be delete` what is incomplete")]
    Interrupted,
    /// The BE that a refresh would copy from was not found. This is wrong usage: the command line
    /// has to name another one.
    #[error(
        "the boot environment that '{target}' was copied from was not found: name the one to copy \
        with --from BE"
    )]
    SourceNotFound {
        /// The BE to refresh.
        target: String,
    },
    /// What runs, or what boots next, is not one of the BEs on the disks.
    #[error("{system} is not one of the boot environments on the disks: `be list` shows those")]
    NotOnAnyDisk {
        /// "the running system", or "what the firmware starts next".
        system: &'static str,
    },
    /// What was to be refused showed only after the first write.
    #[error("{0}; this operation has already written, so run it again after that")]
    Halted(Refusal),
    /// A new BE was made, and what was to follow was not done.
    #[error(
        "'{name}' was made, and what was to follow was not done: {why}; go on with `{command}`"
    )]
    NotFollowed {
        /// The new BE.
        name: String,
        /// What went wrong then.
        why: Box<Error>,
        /// The command that goes on.
        command: String,
    },
    /// An operation would write to a device that its plan does not name.
    #[error("{device} is not in the plan: nothing is written to it; please report this", device = .device.display())]
    NotHeld {
        /// Kernel name with /dev.
        device: PathBuf,
    },
    /// A device was there when the disks were scanned, and is not any more.
    #[error("{device} has disappeared: connect that disk again", device = .device.display())]
    DeviceGone {
        /// Kernel name with /dev.
        device: PathBuf,
    },
    /// A file system in a BE's fstab is not on any disk.
    #[error(
        "{mountpoint} of '{name}' is not on any disk that was found: connect that disk, or correct \
        the fstab of '{name}'"
    )]
    FileSystemNotFound {
        /// The mount point in fstab.
        mountpoint: String,
        /// The BE.
        name: String,
    },
    /// A file system has no UUID by which it could be mounted.
    #[error("{device} does not hold a file system with a UUID: create the boot environment again")]
    NoUuid {
        /// Kernel name with /dev.
        device: String,
    },
    /// A BE has no kernel that could be started.
    #[error(
        "'{name}' has no kernel with an initramfs and modules in /boot: `be check {reference}` \
        says what is missing; install a kernel with `be run --network {reference} -- {install}`"
    )]
    NoKernel {
        /// Its name.
        name: String,
        /// What to call it on a command line.
        reference: String,
        /// The command of its distribution that installs one.
        install: &'static str,
    },
    /// A package manager failed in a BE.
    #[error(
        "{program} failed in '{name}' ({status}): {last_words}; '{name}' is incomplete: repeat the \
        `be upgrade`, or make it equal to its source again with `be refresh {name}`"
    )]
    PackageManager {
        /// Its program.
        program: &'static str,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// The BE.
        name: String,
        /// The last lines that it printed.
        last_words: String,
    },
    /// A health check failed or did not end. The trial is not confirmed.
    #[error(
        "the health check {check} {outcome}: the trial is not confirmed; `be confirm` confirms it \
        anyway",
        check = .check.display()
    )]
    HealthCheck {
        /// The program.
        check: PathBuf,
        /// "failed (exit status: 3)", or that it did not end in time.
        outcome: String,
    },
    /// The blocks of a file system could not be copied after all.
    #[error("the blocks of {device} cannot be copied: {why}; use --method copy")]
    BlockCopy {
        /// The device of the source.
        device: String,
        /// The reason.
        why: String,
    },
    /// The copy of a file system by blocks is damaged.
    #[error(
        "the copy of {device} is damaged, as {device} itself may be: check {device}, or use \
        --method copy ({source})"
    )]
    DamagedCopy {
        /// The device of the source.
        device: String,
        /// What the file system's own check says.
        source: ToolError,
    },
    /// The firmware accepted a boot entry, and then did not have it.
    #[error(
        "the firmware did not keep boot entry {number:04X} as it was written: see `be \
        boot-entries`"
    )]
    EntryNotKept {
        /// Its number.
        number: u16,
    },
    /// A test ends the operation here (`LIFEBOAT_FAIL`).
    #[error("LIFEBOAT_FAIL ends the operation before step {number}, '{line}'")]
    FailPoint {
        /// The step, from 1.
        number: usize,
        /// Its line in the plan.
        line: String,
    },
    /// Any other error, in one sentence that says what to do.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The exit status of `be` for this error (docs/design.md, "The program be").
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::SourceNotFound { .. } => 2,
            Error::Refused(_) => 3,
            Error::Interrupted | Error::Tool(ToolError::Interrupted { .. }) => 130,
            Error::NotFollowed { why, .. } if why.exit_status() == 130 => 130,
            _ => 1,
        }
    }

    /// Wraps a failure of the `boot` crate.
    pub fn boot(
        doing: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Error::Boot { doing: doing.into(), source: Box::new(source) }
    }
}

impl From<ToolError> for Error {
    /// What a Ctrl-C has ended is not a failure of the program.
    fn from(error: ToolError) -> Self {
        match error {
            ToolError::Interrupted { .. } => Error::Interrupted,
            other => Error::Tool(other),
        }
    }
}

/// Adds to the error of a system call what was being done.
pub trait Doing<T> {
    /// `doing` is a phrase such as "reading /etc/fstab".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;

    /// As [`Doing::doing`], with the phrase "`verb` `path`".
    fn at(self, verb: &str, path: &Path) -> Result<T>
    where
        Self: Sized,
    {
        self.doing(|| format!("{verb} {}", path.display()))
    }
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| Error::Io { doing: doing(), source: e.into() })
    }
}
