//! Mount namespaces (mount_namespaces(7)): an operation's own, and the one to go back to.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::error::{Doing, Result};

/// A mount table to go back to.
#[derive(Debug)]
pub struct Namespace(std::fs::File);

impl Namespace {
    /// The calling thread's.
    ///
    /// # Errors
    /// As open(2).
    pub fn current() -> Result<Self> {
        let path = Path::new("/proc/thread-self/ns/mnt");
        std::fs::File::open(path).map(Namespace).at("opening", path)
    }

    /// Runs `work` in a thread that sees this mount table.
    ///
    /// # Errors
    /// As setns(2), and those of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        if self.number()? == Self::current()?.number()? {
            return work();
        }
        let enter = || {
            // A thread that shares its root directory with others stays where it is.
            nix::sched::unshare(CloneFlags::CLONE_FS)
                .doing(|| "leaving the other threads".into())?;
            nix::sched::setns(&self.0, CloneFlags::CLONE_NEWNS)
                .doing(|| "going back to all mounts".into())
        };
        in_thread(|| enter().and_then(|()| work()))
    }

    fn number(&self) -> Result<u64> {
        Ok(self.0.metadata().doing(|| "looking at a mount namespace".into())?.ino())
    }
}

/// Gives the calling thread a mount table of its own, from which nothing gets out.
///
/// # Errors
/// Without root.
pub fn enter_private_namespace() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)
        .doing(|| "making a private mount namespace (needs root)".into())?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .doing(|| "making all mounts private".into())
}

/// Runs `work` in a thread with a mount table of its own, which is gone when this returns: what it
/// mounts is seen by nobody else, and left behind by no crash.
///
/// # Errors
/// Without root, and those of `work`.
pub fn in_private_namespace<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    in_thread(|| enter_private_namespace().and_then(|()| work()))
}

fn in_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
