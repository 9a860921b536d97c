//! Which package a file belongs to, from the lists of files that package managers keep.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::package::{Database, Installed, MAX_DATABASE};
use super::pacman;
use crate::error::Result;
use crate::root_dir::RootDir;

/// Directories of `/` that are symlinks to those of the same name in `/usr`. The lists of packages
/// may have either path.
const MERGED: [&str; 5] = ["bin", "lib", "lib32", "lib64", "sbin"];

/// The names of the packages to which these files belong. A file of none is left out.
///
/// # Errors
/// The lists cannot be read.
pub fn owners(
    root: &RootDir,
    installed: &Installed,
    files: &[PathBuf],
) -> Result<HashMap<PathBuf, String>> {
    let mut wanted: HashMap<PathBuf, &PathBuf> = HashMap::new();
    for file in files {
        wanted.insert(file.clone(), file);
        let in_usr = file.strip_prefix("/usr").ok();
        let is_merged = |below: &&Path| MERGED.iter().any(|name| below.starts_with(name));
        if let Some(below) = in_usr.filter(is_merged) {
            wanted.insert(Path::new("/").join(below), file);
        }
    }
    let mut owners = HashMap::new();
    let mut add = |path: &Path, package: &str| {
        if let Some(file) = wanted.get(path) {
            owners.insert((*file).clone(), package.to_owned());
        }
    };
    let text = |path: &Path| {
        let bytes = root.read_at_most(path, MAX_DATABASE)?;
        Ok::<_, crate::Error>(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
    };
    match installed.database {
        _ if files.is_empty() => {}
        Some(Database::Dpkg) => {
            for package in &installed.packages {
                let name = &package.name;
                let list = Path::new("var/lib/dpkg/info").join(format!("{name}.list"));
                let list = text(&list)?.unwrap_or_default();
                list.lines().for_each(|line| add(Path::new(line), name));
            }
        }
        Some(Database::Pacman) => {
            for directory in root.names("var/lib/pacman/local")? {
                let place = Path::new("var/lib/pacman/local").join(directory);
                let Some(desc) = text(&place.join("desc")).ok().flatten() else { continue };
                let files = text(&place.join("files"))?.unwrap_or_default();
                let Some(package) = pacman::parse(&desc, "") else { continue };
                let files = pacman::section(&files, "%FILES%");
                files.for_each(|file| add(&Path::new("/").join(file), &package.name));
            }
        }
        Some(Database::Apk) => {
            let (mut package, mut directory) = (String::new(), PathBuf::from("/"));
            let list = text(Path::new("lib/apk/db/installed"))?.unwrap_or_default();
            for line in list.lines() {
                match line.split_once(':') {
                    Some(("P", name)) => package = name.to_owned(),
                    Some(("F", path)) => directory = Path::new("/").join(path),
                    Some(("R", name)) => add(&directory.join(name), &package),
                    _ => {}
                }
            }
        }
        Some(Database::Rpm) | None => {}
    }
    Ok(owners)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::installed_packages::installed;
    use crate::root_dir::testing::tree;

    #[test]
    fn the_package_of_a_file_is_found_under_either_path_of_a_merged_usr() {
        let status = "Package: bash\nStatus: install ok installed\nVersion: 5\n\n\
            Package: libc6\nStatus: install ok installed\nMulti-Arch: same\nArchitecture: amd64\n\
            Version: 2\n";
        for files in [
            vec![
                ("var/lib/dpkg/status", status),
                ("var/lib/dpkg/info/bash.list", "/.\n/bin\n/bin/bash\n"),
                ("var/lib/dpkg/info/libc6:amd64.list", "/usr/lib/libc.so.6\n/usr/share/doc\n"),
            ],
            vec![
                ("var/lib/pacman/local/ALPM_DB_VERSION", "9\n"),
                ("var/lib/pacman/local/bash-5/desc", "%NAME%\nbash\n\n%VERSION%\n5\n"),
                ("var/lib/pacman/local/bash-5/files", "%FILES%\nusr/bin/\nusr/bin/bash\n\n"),
                ("var/lib/pacman/local/g-2/desc", "%NAME%\nlibc6:amd64\n\n%VERSION%\n2\n"),
                ("var/lib/pacman/local/g-2/files", "%FILES%\nusr/lib/libc.so.6\n\n%BACKUP%\nx\n"),
            ],
            vec![(
                "lib/apk/db/installed",
                "P:bash\nV:5\nA:x86_64\nF:usr/bin\nR:bash\n\nP:libc6:amd64\nV:2\nA:x86_64\n\
                F:usr/lib\nR:libc.so.6\n",
            )],
        ] {
            let (_directory, root) = tree(&files);
            let wanted = ["/usr/bin/bash", "/usr/lib/libc.so.6", "/etc/hostname"];
            let found =
                owners(&root, &installed(&root).unwrap(), &wanted.map(PathBuf::from)).unwrap();
            let owner = |path: &str| found.get(Path::new(path)).map(String::as_str);
            assert_eq!(wanted.map(owner), [Some("bash"), Some("libc6:amd64"), None]);
        }
    }
}
