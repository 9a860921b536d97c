//! The packages that are installed in a system, read from the files of its package manager. None of
//! its programs is run. The databases of dpkg, pacman and apk are text; that of rpm is not, and is
//! not read.

mod apk;
mod dpkg;
mod owners;
mod package;
mod pacman;

use crate::error::Result;
use crate::root_dir::RootDir;
pub use owners::owners;
use package::MAX_DATABASE;
pub use package::{ConfigurationFile, Database, Installed, Package};

/// Reads what is installed in a system.
///
/// # Errors
/// The files of its package manager cannot be read.
pub fn installed(root: &RootDir) -> Result<Installed> {
    let mut found = Installed::default();
    if let Some(bytes) = root.read_at_most("var/lib/dpkg/status", MAX_DATABASE)? {
        found.database = Some(Database::Dpkg);
        found.packages = parse(Database::Dpkg, &String::from_utf8_lossy(&bytes));
    } else if root.exists("var/lib/pacman/local/ALPM_DB_VERSION") {
        found.database = Some(Database::Pacman);
        found.packages = pacman::read(root)?;
    } else if let Some(bytes) = root.read_at_most("lib/apk/db/installed", MAX_DATABASE)? {
        found.database = Some(Database::Apk);
        found.packages = parse(Database::Apk, &String::from_utf8_lossy(&bytes));
    } else if ["usr/lib/sysimage/rpm", "var/lib/rpm"].iter().any(|place| root.exists(place)) {
        found.database = Some(Database::Rpm);
    }
    found.packages.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Parses a file of this form; for pacman one with the sections of both of its files.
pub fn parse(database: Database, text: &str) -> Vec<Package> {
    match database {
        Database::Dpkg => dpkg::parse(text),
        Database::Pacman => pacman::parse(text, text).into_iter().collect(),
        Database::Apk => apk::parse(text),
        Database::Rpm => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing::tree;

    #[test]
    fn the_list_of_a_system_is_known_by_its_files() {
        let status = "Package: base-files\nStatus: install ok installed\nArchitecture: amd64\n\
            Version: 12.4+deb12u5\n";
        let alpine = "P:musl\nV:1.2.4-r2\nA:x86_64\n";
        for (files, database, packages) in [
            (vec![("var/lib/dpkg/status", status)], Some(Database::Dpkg), 1),
            (
                vec![
                    ("var/lib/pacman/local/ALPM_DB_VERSION", "9\n"),
                    (
                        "var/lib/pacman/local/zlib-1:1.3-2/desc",
                        "%NAME%\nzlib\n\n%VERSION%\n1:1.3-2\n",
                    ),
                ],
                Some(Database::Pacman),
                1,
            ),
            (vec![("lib/apk/db/installed", alpine)], Some(Database::Apk), 1),
            (vec![("var/lib/rpm/rpmdb.sqlite", "")], Some(Database::Rpm), 0),
            (vec![("etc/fstab", "")], None, 0),
        ] {
            let (_directory, root) = tree(&files);
            let found = installed(&root).unwrap();
            assert_eq!((found.database, found.packages.len()), (database, packages), "{files:?}");
        }
    }
}
