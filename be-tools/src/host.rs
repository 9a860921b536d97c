//! The machine that `be` works on: the paths of its root and of its kernel's file systems. Tests
//! use a temporary directory instead.

use std::path::{Path, PathBuf};

use boot::efi::Variables;

/// The paths by which a machine is reached.
///
/// Paths that name the calling process itself, such as `/proc/self/fd`, do not belong to it: they
/// are the same whichever machine is worked on.
#[derive(Clone, Debug)]
pub struct Host {
    /// The root directory of the running system: `/`.
    pub root: PathBuf,
    /// `/sys`
    pub sys: PathBuf,
    /// `/dev`
    pub dev: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
    /// `/run`, which holds locks and mount points.
    pub run: PathBuf,
}

impl Host {
    /// The machine that this program runs on.
    pub fn local() -> Self {
        Host::below(Path::new("/"))
    }

    /// The machine whose root directory is `root`.
    pub fn below(root: &Path) -> Self {
        let at = |name: &str| root.join(name);
        Host {
            root: root.to_owned(),
            sys: at("sys"),
            dev: at("dev"),
            proc: at("proc"),
            run: at("run"),
        }
    }

    /// The firmware's variables. Where UEFI did not start the machine, there are none.
    pub fn variables(&self) -> Variables {
        Variables::new(self.sys.join("firmware/efi/efivars"))
    }

    /// The executable of this program, for starting it again.
    pub fn program(&self) -> PathBuf {
        self.proc.join("self/exe")
    }

    /// The table of the swap areas in use (proc(5)).
    pub fn swaps_table(&self) -> PathBuf {
        self.proc.join("swaps")
    }

    /// Whether this is the rescue image, whose PID 1 obeys signals (docs/rescue-image.md).
    pub fn is_rescue_image(&self) -> bool {
        self.run.join("rescue-init/supervisor").exists()
    }

    /// A test made the machine out of a directory.
    #[cfg(test)]
    pub(crate) fn is_simulated(&self) -> bool {
        self.root != Path::new("/")
    }
}
