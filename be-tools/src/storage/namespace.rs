//! Mount namespaces (mount_namespaces(7)): the private one of an operation, and the one that it
//! came from.

use std::cell::Cell;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sched::CloneFlags;
use rustix::mount::{MountPropagationFlags, mount_change};

use crate::error::{Doing, Result};

/// A mount namespace to return to.
#[derive(Debug)]
pub struct Namespace(std::fs::File);

impl Namespace {
    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// As open(2).
    pub fn current() -> Result<Self> {
        let path = Path::new("/proc/thread-self/ns/mnt");
        std::fs::File::open(path).map(Namespace).at("opening", path)
    }

    /// Runs `work` in a thread in this namespace.
    ///
    /// # Errors
    /// As setns(2), and those of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        if self.number()? == Self::current()?.number()? {
            return work();
        }
        let enter = || {
            // setns(2) fails for a thread that shares its root directory with others.
            nix::sched::unshare(CloneFlags::CLONE_FS)
                .doing(|| "unsharing the root directory from other threads".into())?;
            nix::sched::setns(&self.0, CloneFlags::CLONE_NEWNS)
                .doing(|| "returning to the first mount namespace".into())
        };
        in_thread(|| enter().and_then(|()| work()))
    }

    fn number(&self) -> Result<u64> {
        Ok(self.0.metadata().doing(|| "reading the number of a mount namespace".into())?.ino())
    }
}

/// Moves the calling thread to a new mount namespace, whose mounts do not propagate to others.
/// Unmounting a shared mount outside also unmounts it here (mount_namespaces(7)). Otherwise its
/// device would stay in use for as long as the operation takes.
///
/// # Errors
/// Without root.
pub fn enter_private_namespace() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)
        .doing(|| "making a private mount namespace (needs root)".into())?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::DOWNSTREAM)
        .doing(|| "making all mounts private to this program".into())
}

/// As [`enter_private_namespace`], but only once in each thread: for a worker that answers several
/// questions.
///
/// # Errors
/// Without root.
pub fn stay_in_private_namespace() -> Result<()> {
    thread_local! {
        static ENTERED: Cell<bool> = const { Cell::new(false) };
    }
    if !ENTERED.get() {
        enter_private_namespace()?;
        ENTERED.set(true);
    }
    Ok(())
}

/// Runs `work` in a thread in a private mount namespace, which ends when this returns. No other
/// program sees its mounts, and none remains after a crash.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{LoopDevice, image, is_root, mount_target};
    use crate::storage::usage;
    use crate::tool::Tool;

    #[test]
    fn a_private_namespace_holds_nothing_that_is_unmounted_outside() {
        if !is_root() {
            return;
        }
        let file = image(32 << 20);
        Tool::new("mke2fs").args(["-qFt", "ext4"]).arg(file.path()).run().unwrap();
        let device = LoopDevice::attach(file.path());
        in_private_namespace(|| {
            // As systemd sets it.
            mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::SHARED).unwrap();
            let (place, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let mounted = mount_target(&device.node, "ext4", place.path())?;
            let (entered, wait) = (std::sync::Barrier::new(2), std::sync::Barrier::new(2));
            std::thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    in_private_namespace(|| {
                        let own = mount_target(Path::new("none"), "tmpfs", inside.path());
                        std::fs::write(inside.path().join("mine"), "").unwrap();
                        entered.wait();
                        wait.wait();
                        own.map(drop)
                    })
                });
                entered.wait();
                assert!(!inside.path().join("mine").exists());
                mounted.unmount()?;
                let free = usage::refuse_busy(&device.node);
                wait.wait();
                thread.join().unwrap()?;
                free.at("claiming", &device.node)
            })
        })
        .unwrap();
    }
}
