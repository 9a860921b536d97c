//! The machine that `be` works on: the paths of its root and of its kernel's file systems. Tests
//! use a temporary directory instead.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use boot::efi::Variables;

use crate::error::{Doing, Result};

const ONLY_ROOT: u32 = 0o700;

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

    /// A directory below `/run/lifeboat`, which holds locks and mount points; it is made if it does
    /// not exist. Only root may enter any of them: the file systems that are mounted there may hold
    /// set-user-ID programs, and directories that other users may change.
    ///
    /// # Errors
    /// As mkdir(2) and chmod(2); one of them is a symlink or a file.
    pub fn work_directory(&self, below: &str) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.run).at("making the directory", &self.run)?;
        let mut path = self.run.join("lifeboat");
        make_private(&path)?;
        for name in Path::new(below) {
            path.push(name);
            make_private(&path)?;
        }
        Ok(path)
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

fn make_private(path: &Path) -> Result<()> {
    match std::fs::DirBuilder::new().mode(ONLY_ROOT).create(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => return made.at("making the directory", path),
    }
    let found = std::fs::symlink_metadata(path).at("reading the metadata of", path)?;
    if !found.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::NotADirectory))
            .at("making the directory", path);
    }
    if found.permissions().mode() & 0o077 == 0 {
        return Ok(());
    }
    // An older version made it for everybody.
    let permissions = std::fs::Permissions::from_mode(ONLY_ROOT);
    std::fs::set_permissions(path, permissions).at("changing the mode of", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_root_may_enter_a_work_directory_however_it_was_made_before() {
        let root = tempfile::tempdir().unwrap();
        let host = Host::below(root.path());
        std::fs::create_dir_all(host.run.join("lifeboat")).unwrap();
        let made = host.work_directory("mnt/second").unwrap();
        assert_eq!(made, host.run.join("lifeboat/mnt/second"));
        for path in ["lifeboat", "lifeboat/mnt", "lifeboat/mnt/second"] {
            let found = std::fs::metadata(host.run.join(path)).unwrap();
            assert_eq!(found.permissions().mode() & 0o777, ONLY_ROOT, "{path}");
        }
        assert_eq!(host.work_directory("mnt/second").unwrap(), made);
        std::os::unix::fs::symlink("/", host.run.join("lifeboat/elsewhere")).unwrap();
        assert!(host.work_directory("elsewhere/x").is_err());
    }
}
