//! What tests of storage need: image files and loop devices that go away with their handle.

use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::tool::Tool;

/// A sparse file of `size` bytes.
pub(crate) fn image(size: u64) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    file.as_file().set_len(size).unwrap();
    file
}

/// True when the test may use loop devices and mounts; says why not.
pub(crate) fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: loop devices and mounts need root");
    }
    root
}

/// A loop device over a file.
pub(crate) struct Loop {
    pub(crate) node: PathBuf,
}

impl Loop {
    pub(crate) fn attach(file: &Path) -> Self {
        let node = Tool::new("losetup").args(["--find", "--show"]).arg(file).run().unwrap();
        Loop { node: node.trim().into() }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Tool::new("losetup").arg("--detach").arg(&self.node).run();
    }
}

/// Runs a test in a thread with a mount namespace of its own, so that a panic leaves no mount behind.
pub(crate) fn in_namespace<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let run = || {
        super::mounts::enter_private_namespace().unwrap();
        test()
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(value) => value,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
