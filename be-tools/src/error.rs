//! What can go wrong, grouped by what the caller does about it: the exit status of `be`.

use std::io;
use std::path::{Path, PathBuf};

use crate::tool::ToolError;

/// The result of every operation of this library.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure of an operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line asks for something that has no meaning.
    #[error("{0}")]
    Usage(String),
    /// An invariant forbids it; nothing was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A system call failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, to which path or device.
        doing: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A file or device holds something that does not parse.
    #[error("{path}: {why}", path = .path.display())]
    Format {
        /// The file or device.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        why: String,
    },
    /// An external program failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// Firmware variables, loader files or ESP could not be read or written.
    #[error("{doing}: {source}")]
    Boot {
        /// What was being done.
        doing: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// SIGINT or SIGTERM; what was made so far says that it is incomplete.
    #[error("interrupted; run the command again, or `be delete` what is incomplete")]
    Interrupted,
    /// Anything else, in one sentence that says what to do.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// Exit status of `be` for this error (DESIGN.md, "The program be").
    pub fn exit_status(&self) -> u8 {
        match self {
            Error::Usage(_) => 2,
            Error::Refused(_) => 3,
            Error::Interrupted => 130,
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

/// Adds what was being done to a system call's error.
pub trait Doing<T> {
    /// `doing` is a phrase such as "reading /etc/fstab".
    fn doing(self, doing: impl FnOnce() -> String) -> Result<T>;

    /// "VERB PATH" as the phrase.
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

/// Why an operation was refused before anything was written, and the way out.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// Not run by root.
    #[error("{verb} needs root: run it with sudo")]
    NotRoot {
        /// The verb.
        verb: String,
    },
    /// The device is mounted.
    #[error("{device} is mounted on {mountpoint}: unmount it first")]
    Mounted {
        /// Kernel name with /dev.
        device: String,
        /// One of the places.
        mountpoint: String,
    },
    /// The device is swap space in use.
    #[error("{device} is used as swap: `swapoff {device}` first")]
    SwapInUse {
        /// Kernel name with /dev.
        device: String,
    },
    /// Something is stacked on the device (LVM, LUKS, md).
    #[error("{device} is in use by {holder}: close that first")]
    Held {
        /// Kernel name with /dev.
        device: String,
        /// The device stacked on it.
        holder: String,
    },
    /// The device belongs to a BE the command did not name.
    #[error(
        "{device} is part of boot environment '{owner}': to put the new one in its place use \
        --replace {owner}"
    )]
    PartOfEnvironment {
        /// Kernel name with /dev.
        device: String,
        /// That BE.
        owner: String,
    },
    /// A whole disk with partitions was named as a file system's place.
    #[error("{device} holds a {table} partition table: name one of its partitions{partitions}")]
    PartitionTable {
        /// Kernel name with /dev.
        device: String,
        /// GPT or MBR.
        table: String,
        /// " (a, b)" or nothing.
        partitions: String,
    },
    /// The device holds something and `--force` was not given.
    #[error("{device} holds {content}: give --force to erase it, or name another device")]
    HoldsData {
        /// Kernel name with /dev.
        device: String,
        /// What was found on it.
        content: String,
    },
    /// The target cannot hold the source.
    #[error(
        "{device} is too small for {mountpoint}: it needs {needed}, the device gives {available}; \
        name a larger one, or leave files out with --exclude"
    )]
    TooSmall {
        /// Kernel name with /dev.
        device: String,
        /// Mount point in the target.
        mountpoint: String,
        /// For people.
        needed: String,
        /// For people.
        available: String,
    },
    /// The name is taken.
    #[error(
        "a boot environment named '{name}' exists on {device}: choose another name, or `be delete \
        {name}` first"
    )]
    NameTaken {
        /// The name as it is written there.
        name: String,
        /// Its root device.
        device: String,
    },
    /// More than one BE answers to the name.
    #[error("'{name}' is ambiguous: say which one: {candidates}", candidates = .candidates.join(", "))]
    Ambiguous {
        /// As the user gave it.
        name: String,
        /// Names that are not.
        candidates: Vec<String>,
    },
    /// No EFI system partition where the loader would go.
    #[error("no EFI system partition found on {searched}: make one (type EF00, FAT32)")]
    NoEsp {
        /// Which disks were looked at.
        searched: String,
    },
    /// Its descriptor names a loader that is not known here.
    #[error(
        "'{name}' is started by the loader '{loader}', which this program does not know: use a \
        newer be"
    )]
    UnknownLoader {
        /// The BE.
        name: String,
        /// As its descriptor names it.
        loader: String,
    },
    /// Not started by UEFI firmware, or without its runtime services.
    #[error(
        "the firmware's variables cannot be read here: start this system in UEFI mode, without \
        efi=noruntime"
    )]
    NoFirmwareVariables,
    /// The firmware would not start what Lifeboat writes.
    #[error(
        "Secure Boot is enforced and would refuse Lifeboat's unsigned loader: turn Secure Boot \
        off in the firmware setup"
    )]
    SecureBoot,
    /// A copy cannot be made bootable here: the cause, and what only `be create` has as a way out.
    #[error("{0}, or use --no-boot-entry for a copy that another machine will boot")]
    NotBootableHere(Box<Refusal>),
    /// The state does not allow it.
    #[error(
        "boot environment '{name}' is incomplete (interrupted {operation}): run that operation \
        again, or `be delete {name}`"
    )]
    Incomplete {
        /// The BE.
        name: String,
        /// The operation that did not end.
        operation: String,
    },
    /// It is the system that runs.
    #[error("'{name}' is the running boot environment: {way_out}")]
    Running {
        /// The BE.
        name: String,
        /// What to do instead.
        way_out: String,
    },
    /// Another `be` works on it.
    #[error(
        "another operation is under way on {what} (process {pid}): wait for it, or interrupt that \
        process"
    )]
    Busy {
        /// BE or machine.
        what: String,
        /// Process id of the holder, or "unknown".
        pid: String,
    },
    /// A check before the switch failed.
    #[error("'{name}' would not boot: {}; `be check {name}` lists it, --force activates it all \
        the same", .problems.join("; "))]
    WouldNotBoot {
        /// The BE.
        name: String,
        /// One sentence each.
        problems: Vec<String>,
    },
    /// The plan was not confirmed.
    #[error("not confirmed: nothing was written; answer yes, or give --yes")]
    NotConfirmed,
    /// Any other invariant, in a sentence that names the thing and the way out.
    #[error("{0}")]
    Other(String),
}
