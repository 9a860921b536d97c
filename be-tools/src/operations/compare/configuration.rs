//! Configuration files that were changed by hand since their package was installed.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use md5::{Digest, Md5};
use serde::Serialize;

use crate::distribution::installed_packages::Package;
use crate::error::{Doing, Result};
use crate::plan::go_on;
use crate::root_dir::RootDir;

/// A configuration file that is not as its package installed it, in one of two systems or in both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConfigurationChange {
    /// Its path.
    pub path: PathBuf,
    /// The package that it belongs to.
    pub package: String,
    /// Its state in the first system; `None` if no package there has it.
    pub first: Option<ConfigurationState>,
    /// Its state in the second system; `None` if no package there has it.
    pub second: Option<ConfigurationState>,
}

/// The state of a configuration file, beside how its package installed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigurationState {
    /// As it was installed.
    AsInstalled,
    /// Its content is another one.
    Changed,
    /// It is not there, or no regular file.
    Removed,
}

/// The configuration files that were changed in one of two systems, by path. Nothing is known of one
/// without a root.
///
/// # Errors
/// A file cannot be read, and [`Error::Interrupted`](crate::Error::Interrupted).
pub(super) fn changes(
    roots: [Option<&RootDir>; 2],
    packages: [&[Package]; 2],
) -> Result<Vec<ConfigurationChange>> {
    let mut all: BTreeMap<&Path, ConfigurationChange> = BTreeMap::new();
    for (index, (root, packages)) in roots.into_iter().zip(packages).enumerate() {
        let Some(root) = root else { continue };
        for package in packages {
            for file in &package.configuration {
                go_on()?;
                let state = Some(state(root, &file.path, &file.md5)?);
                let change = all.entry(&file.path).or_insert_with(|| ConfigurationChange {
                    path: file.path.clone(),
                    package: package.name.clone(),
                    first: None,
                    second: None,
                });
                *(if index == 0 { &mut change.first } else { &mut change.second }) = state;
            }
        }
    }
    let is_changed = |state: Option<ConfigurationState>| {
        state.is_some_and(|state| state != ConfigurationState::AsInstalled)
    };
    Ok(all.into_values().filter(|c| is_changed(c.first) || is_changed(c.second)).collect())
}

/// The most bytes of a configuration file whose digest is made. Packages have none that is larger, and
/// a foreign file may have any size.
const MOST: u64 = 64 << 20;

fn state(root: &RootDir, path: &Path, md5: &str) -> Result<ConfigurationState> {
    let Some(file) = root.file(path)? else { return Ok(ConfigurationState::Removed) };
    let reading = || format!("reading {}", path.display());
    let metadata = file.metadata().doing(reading)?;
    if !metadata.is_file() {
        return Ok(ConfigurationState::Removed);
    }
    if metadata.len() > MOST {
        return Ok(ConfigurationState::Changed);
    }
    let mut file = file.take(MOST);
    let (mut digest, mut buffer) = (Md5::new(), vec![0; 64 * 1024]);
    loop {
        go_on()?;
        match file.read(&mut buffer).doing(reading)? {
            0 => break,
            length => digest.update(&buffer[..length]),
        }
    }
    let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(match found.eq_ignore_ascii_case(md5) {
        true => ConfigurationState::AsInstalled,
        false => ConfigurationState::Changed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::installed_packages::ConfigurationFile;
    use crate::root_dir::testing::tree;

    #[test]
    fn what_was_changed_or_removed_in_one_of_them_is_listed() {
        // As md5sum(1) prints it.
        let md5 = "de2b14ae7499f90736fc4a92327553a5";
        let package = Package {
            name: "ssh".into(),
            version: "1".into(),
            configuration: ["/etc/kept", "/etc/changed", "/etc/removed"]
                .map(|path| ConfigurationFile { path: path.into(), md5: md5.into() })
                .into(),
        };
        let (_one, first) = tree(&[
            ("etc/kept", "default\n"),
            ("etc/changed", "default\n"),
            ("etc/removed", "default\n"),
        ]);
        let (_two, second) = tree(&[("etc/kept", "default\n"), ("etc/changed", "by hand\n")]);
        let packages = [package];
        let found = changes([Some(&first), Some(&second)], [&packages, &packages]).unwrap();
        let states: Vec<_> =
            found.iter().map(|c| (c.path.to_str().unwrap(), c.first, c.second)).collect();
        let (kept, changed) = (ConfigurationState::AsInstalled, ConfigurationState::Changed);
        assert_eq!(
            states,
            [
                ("/etc/changed", Some(kept), Some(changed)),
                ("/etc/removed", Some(kept), Some(ConfigurationState::Removed)),
            ]
        );
        assert_eq!(changes([Some(&first), None], [&packages, &[]]).unwrap(), []);
    }

    #[test]
    fn a_file_of_any_size_takes_no_longer_than_a_package_may_have() {
        let (directory, root) = tree(&[("etc/large", "")]);
        let large = std::fs::File::options().write(true).open(directory.path().join("etc/large"));
        large.unwrap().set_len(1 << 40).unwrap();
        let found = state(&root, Path::new("/etc/large"), "de2b14ae7499f90736fc4a92327553a5");
        assert_eq!(found.unwrap(), ConfigurationState::Changed);
    }
}
