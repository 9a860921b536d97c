//! One of two systems that are compared: a BE, a directory, or an archive.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::archive::{self, Contents};
use crate::distribution::installed_packages::{Database, Installed, installed, parse};
use crate::environment::Inventory;
use crate::environment::mounted::MountedEnvironment;
use crate::error::Result;
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::timestamp::Timestamp;
use crate::tree::exclude::Exclude;
use crate::tree::listing::Tree;
use crate::tree::manifest::{Manifest, Unknown, record};

/// The list of packages of an archive, and how large it may be in bytes.
const PACKAGES: (&str, u64) = ("var/lib/dpkg/status", 64 << 20);

/// A system that can be read.
pub(super) struct Side {
    /// For people.
    pub(super) name: String,
    pub(super) warnings: Vec<String>,
    pub(super) system: System,
}

/// What a system is read from.
pub(super) enum System {
    /// A BE, which stays mounted as long as this exists, or a directory.
    Tree { root: RootDir, mounted: Option<MountedEnvironment> },
    /// An archive, which has been read.
    Archive(Contents),
}

/// How a system is read.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    pub(super) rules: &'a Exclude,
    pub(super) content: bool,
    pub(super) progress: &'a (dyn Fn(u64) + Sync),
}

/// Whether this names a directory or an archive: a path has a `/`, and the name of no BE has one before its `@`.
pub(super) fn is_directory(reference: &OsStr) -> bool {
    let name = reference.as_bytes().split(|byte| *byte == b'@').next().unwrap_or_default();
    name.contains(&b'/')
}

impl Side {
    /// Opens a system, the running BE if there is no reference; a BE is mounted for reading, with
    /// all file systems of its own. An archive is read, except what the rules leave out.
    ///
    /// # Errors
    /// It is not found or cannot be mounted or read.
    pub(super) fn open(
        host: &Host,
        inventory: &Inventory,
        reference: Option<&OsStr>,
        reading: Reading<'_>,
    ) -> Result<Self> {
        if let Some(path) = reference.filter(|reference| is_directory(reference)).map(Path::new) {
            let name = path.display().to_string();
            if path.is_file() {
                let Reading { rules, content, progress } = reading;
                let wanted = archive::Wanted { rules, content, files: &[PACKAGES] };
                let contents = archive::read(path, wanted, progress)?;
                let warnings = contents.warnings.clone();
                return Ok(Side { name, warnings, system: System::Archive(contents) });
            }
            let system = System::Tree { root: RootDir::open(path)?, mounted: None };
            return Ok(Side { name, warnings: Vec::new(), system });
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
        let system = System::Tree { root, mounted: Some(mounted) };
        Ok(Side { name: environment.name().to_owned(), warnings, system })
    }

    /// Its tree, if it is not an archive. What is mounted in a directory does not belong to it.
    ///
    /// # Errors
    /// As open(2).
    pub(super) fn tree(&self) -> Result<Option<Tree>> {
        match &self.system {
            System::Tree { root, mounted } => Tree::open(root.path(), mounted.is_some()).map(Some),
            System::Archive(_) => Ok(None),
        }
    }

    /// Its root, if it is not an archive.
    pub(super) fn root(&self) -> Option<&RootDir> {
        match &self.system {
            System::Tree { root, .. } => Some(root),
            System::Archive(_) => None,
        }
    }

    /// Its packages.
    ///
    /// # Errors
    /// The files of its package manager cannot be read.
    pub(super) fn packages(&self) -> Result<Installed> {
        match &self.system {
            System::Tree { root, .. } => installed(root),
            System::Archive(contents) => {
                let status = contents.files.get(&PathBuf::from(PACKAGES.0));
                let database = status.map(|_| Database::Dpkg);
                let packages = status.map_or_else(Vec::new, |status| {
                    parse(Database::Dpkg, &String::from_utf8_lossy(status))
                });
                Ok(Installed { database, packages })
            }
        }
    }

    /// What it holds, to be compared with what an archive holds; and what could not be read.
    ///
    /// # Errors
    /// It cannot be read, and [`Error::Interrupted`](crate::Error::Interrupted).
    pub(super) fn manifest(&self, reading: Reading<'_>) -> Result<(Manifest, Vec<String>)> {
        let tree = match &self.system {
            System::Archive(contents) => return Ok((contents.manifest.clone(), Vec::new())),
            System::Tree { root, mounted } => Tree::open(root.path(), mounted.is_some())?,
        };
        // Nothing is changed at the end of time.
        let never = Unknown::ReadSince(Timestamp::new(i64::MAX, 0));
        let unknown = if reading.content { Unknown::Read } else { never };
        let nothing = Manifest::default();
        let recorded = record(&tree, reading.rules, &nothing, unknown, &mut |count| {
            (reading.progress)(count.entries);
            Ok(())
        })?;
        Ok((recorded.manifest, recorded.unread))
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
