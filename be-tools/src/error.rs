//! The errors of this library, grouped by what the caller does about them: by the exit status of
//! `be`.

use std::io;
use std::path::{Path, PathBuf};

use crate::tool::ToolError;

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
    Tool(#[from] ToolError),
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
    /// Any other error, in one sentence that says what to do.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// The exit status of `be` for this error (DESIGN.md, "The program be").
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

/// Why an operation was refused before anything was written, and what the user can do about it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Refusal {
    /// The program does not run as root.
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
        /// One of its mount points.
        mountpoint: String,
    },
    /// The device is swap space in use.
    #[error("{device} is used as swap: `swapoff {device}` first")]
    SwapInUse {
        /// Kernel name with /dev.
        device: String,
    },
    /// Another device is stacked on this one (LVM, LUKS, md).
    #[error("{device} is in use by {holder}: close that first")]
    Held {
        /// Kernel name with /dev.
        device: String,
        /// The device stacked on it.
        holder: String,
    },
    /// The device belongs to a BE that the command line does not name.
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
    /// A whole disk with partitions was named as the target of a file system.
    #[error("{device} holds a {table} partition table: name one of its partitions{partitions}")]
    PartitionTable {
        /// Kernel name with /dev.
        device: String,
        /// GPT or MBR.
        table: String,
        /// " (a, b)", or empty.
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
        /// Size with a unit.
        needed: String,
        /// Size with a unit.
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
    /// More than one BE has the name.
    #[error("'{name}' is ambiguous: use one of {}", .candidates.join(", "))]
    Ambiguous {
        /// The name as the user gave it.
        name: String,
        /// Names that are not ambiguous.
        candidates: Vec<String>,
    },
    /// There is no EFI system partition for the loader.
    #[error("no EFI system partition found on {searched}: make one (type EF00, FAT32)")]
    NoEsp {
        /// The disks that were searched.
        searched: String,
    },
    /// The descriptor names a loader that this program does not know.
    #[error(
        "'{name}' is started by the loader '{loader}', which this program does not know: use a \
        newer be"
    )]
    UnknownLoader {
        /// The BE.
        name: String,
        /// The loader, as the descriptor names it.
        loader: String,
    },
    /// The system was not started in UEFI mode, or runs without UEFI runtime services.
    #[error(
        "the firmware's variables cannot be read here: start this system in UEFI mode, without \
        efi=noruntime"
    )]
    NoFirmwareVariables,
    /// The firmware would not start the loader that Lifeboat writes.
    #[error(
        "Secure Boot is enforced and would refuse Lifeboat's unsigned loader: turn Secure Boot \
        off in the firmware setup"
    )]
    SecureBoot,
    /// A copy cannot be made bootable on this machine. Adds an alternative that only `be create`
    /// has to the cause.
    #[error("{0}, or use --no-boot-entry for a copy that another machine will boot")]
    NotBootableHere(Box<Refusal>),
    /// The BE is incomplete.
    #[error(
        "boot environment '{name}' is incomplete (interrupted {operation}): run that operation \
        again, or `be delete {name}`"
    )]
    Incomplete {
        /// The BE.
        name: String,
        /// The operation that was interrupted.
        operation: String,
    },
    /// The BE is the running system.
    #[error("'{name}' is the running boot environment: {way_out}")]
    Running {
        /// The BE.
        name: String,
        /// What the user can do instead.
        way_out: String,
    },
    /// Another `be` process holds the lock.
    #[error(
        "another operation is in progress on {what} (process {pid}): wait for it, or interrupt \
        that process"
    )]
    Busy {
        /// BE or machine.
        what: String,
        /// Process id of the holder, or "unknown".
        pid: String,
    },
    /// A check before the activation failed.
    #[error(
        "'{name}' would not boot: {}; see `be check {name}`, or activate it anyway with --force",
        .problems.join("; ")
    )]
    WouldNotBoot {
        /// The BE.
        name: String,
        /// What is wrong, one sentence each.
        problems: Vec<String>,
    },
    /// The plan was not confirmed.
    #[error("not confirmed: nothing was written; answer yes, or give --yes")]
    NotConfirmed,
    /// Any other reason, in a sentence that says what to do.
    #[error("{0}")]
    Other(String),
}
