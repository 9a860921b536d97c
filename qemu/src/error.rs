//! What can go wrong with a virtual machine, and what to do about it.

use crate::Accelerator;
use std::path::PathBuf;
use std::time::Duration;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of a virtual machine or of what it is made from.
#[derive(thiserror::Error)]
pub enum Error {
    /// A program of the host is not installed.
    #[error("{program} is not installed: apt-get install {package}")]
    MissingProgram {
        /// The program that was looked for.
        program: String,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A file of the host, such as a firmware image, is not installed.
    #[error("{} is missing: apt-get install {package}", path.display())]
    MissingFile {
        /// The file that was looked for.
        path: PathBuf,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// A program of the host failed.
    #[error("{command} failed ({status}): {words}")]
    Tool {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines it wrote.
        words: String,
    },
    /// An operation on a file, a socket or a process failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, to which thing.
        doing: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// QEMU ended unexpectedly.
    #[error("machine {machine}: QEMU ended ({status}) while {doing}: {words}\n{tail}")]
    Ended {
        /// The machine's name.
        machine: String,
        /// QEMU's exit status.
        status: String,
        /// What was being done.
        doing: String,
        /// QEMU's standard error.
        words: String,
        /// The last lines of the console.
        tail: String,
    },
    /// The accelerator failed.
    #[error(
        "machine {machine} stopped under {accelerator}: {words}\nSet LIFEBOAT_ACCEL=tcg to \
        run it without KVM. The console's last lines:\n{tail}"
    )]
    Accelerator {
        /// The machine's name.
        machine: String,
        /// The accelerator.
        accelerator: Accelerator,
        /// QEMU's standard error.
        words: String,
        /// The last lines of the console.
        tail: String,
    },
    /// Something did not happen in time.
    #[error("machine {machine}: {what} did not happen within {} s. The console's last \
        lines:\n{tail}", limit.as_secs())]
    Deadline {
        /// The machine's name.
        machine: String,
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The last lines of the console.
        tail: String,
    },
    /// A command in the guest failed.
    #[error("machine {machine}: `{command}` ended with status {status}:\n{stdout}{stderr}")]
    Command {
        /// The machine's name.
        machine: String,
        /// The shell command.
        command: String,
        /// Its exit status; 128 + n if signal n ended it.
        status: i32,
        /// Its standard output.
        stdout: String,
        /// Its standard error.
        stderr: String,
    },
    /// QEMU or the guest agent refused a command of its protocol.
    #[error("{command} was refused: {reason}")]
    Protocol {
        /// The QMP or agent command.
        command: String,
        /// The reason that was given.
        reason: String,
    },
    /// Other machines held the locks for too long.
    #[error("{} was held by another machine for {} s: end that machine, or wait",
        path.display(), waited.as_secs())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long this waited.
        waited: Duration,
    },
    /// The description of a machine cannot be built.
    #[error("{0}")]
    Description(String),
}

impl Error {
    /// An I/O error with what was being done: `map_err(Error::io(|| format!("opening {path}")))`.
    pub(crate) fn io(doing: impl FnOnce() -> String) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::Io { doing: doing(), source }
    }
}

/// The same as `Display`, so that a test that unwraps prints the console's output line by line.
impl std::fmt::Debug for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
