//! One of two systems that are compared: a BE, or a directory.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::environment::Inventory;
use crate::environment::mounted::MountedEnvironment;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::tree::listing::Tree;

/// A system that can be read. A BE stays mounted as long as this exists.
pub(super) struct Side {
    /// For people.
    pub(super) name: String,
    pub(super) root: RootDir,
    pub(super) warnings: Vec<String>,
    mounted: Option<MountedEnvironment>,
}

/// Whether this names a directory: a path has a `/`, and the name of no BE has one before its `@`.
pub(super) fn is_directory(reference: &OsStr) -> bool {
    let name = reference.as_bytes().split(|byte| *byte == b'@').next().unwrap_or_default();
    name.contains(&b'/')
}

impl Side {
    /// Opens a system, the running BE if there is no reference; a BE is mounted for reading, with all file systems of its own.
    ///
    /// # Errors
    /// It is not found or cannot be mounted.
    pub(super) fn open(
        host: &Host,
        inventory: &Inventory,
        reference: Option<&OsStr>,
    ) -> Result<Self> {
        if let Some(path) = reference.filter(|reference| is_directory(reference)).map(Path::new) {
            let name = path.display().to_string();
            if path.is_file() {
                return Err(Error::Usage(format!(
                    "{name} is a file: name a boot environment or a directory"
                )));
            }
            let root = RootDir::open(path)?;
            return Ok(Side { name, root, warnings: Vec::new(), mounted: None });
        }
        let name = reference.map(OsStr::to_string_lossy);
        let environment = inventory.find_or_running(name.as_deref())?;
        let mounted = MountedEnvironment::mount_system(host, inventory, environment)?;
        let mut warnings = mounted.warnings().to_vec();
        if environment.is_unfinished() {
            warnings.push(format!(
                "'{}' is {}: only its root file system is compared",
                environment.name(),
                environment.state_text()
            ));
        }
        let root = RootDir::open(mounted.root())?;
        Ok(Side { name: environment.name().to_owned(), root, warnings, mounted: Some(mounted) })
    }

    /// Its tree. What is mounted in a directory does not belong to it.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn tree(&self) -> Result<Tree> {
        Tree::open(self.root.path(), self.mounted.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_a_directory_and_a_name_is_a_boot_environment() {
        for (text, expected) in [
            ("second", false),
            ("second@vg/root", false),
            ("@/dev/vda2", false),
            ("/", true),
            ("./second", true),
            ("backup/root", true),
            ("/mnt/@home", true),
        ] {
            assert_eq!(is_directory(OsStr::new(text)), expected, "{text}");
        }
    }
}
