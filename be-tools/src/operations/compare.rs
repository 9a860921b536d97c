//! `be compare`: what differs between two systems: packages, configuration files that were changed
//! by hand, files.

mod configuration;
mod side;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde::Serialize;

use crate::discover;
use crate::distribution::installed_packages::{Database, Installed};
use crate::environment::Inventory;
use crate::error::Result;
use crate::host::Host;
use crate::storage::namespace;
pub use crate::tree::compare::Attribute;
use crate::tree::compare::{Difference, How, Which, compare as compare_trees};
use crate::tree::exclude::Exclude;
use crate::tree::listing::kind_name;
use crate::tree::manifest::compare as compare_manifests;
pub use configuration::{ConfigurationChange, ConfigurationState};
use side::{Reading, Side};

/// What to compare.
#[derive(Clone, Debug)]
pub struct CompareRequest {
    /// What names a system: a BE, or a directory or an archive, which has a `/` in it.
    pub first: OsString,
    /// What names the other one; `None` is the running BE.
    pub second: Option<OsString>,
    /// Whether files of the same size are read.
    pub content: bool,
    /// Globs on paths as the systems see them: what is left out.
    pub exclude: Vec<String>,
}

/// The differences between two systems.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Comparison {
    /// The name of the first one.
    pub first: String,
    /// The name of the second one.
    pub second: String,
    /// Packages that are in one of them only, or in another version, by name.
    pub packages: Vec<PackageDifference>,
    /// Configuration files that were changed since their package was installed, by path.
    pub configuration: Vec<ConfigurationChange>,
    /// Files and other entries that differ, by path.
    pub files: Vec<FileDifference>,
    /// How many entries were compared.
    pub entries: u64,
    /// What could not be read or compared, as sentences.
    pub warnings: Vec<String>,
}

/// A package that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageDifference {
    /// Its name.
    pub name: String,
    /// Its version in the first system, if it is installed there.
    pub first: Option<String>,
    /// Its version in the second system, if it is installed there.
    pub second: Option<String>,
}

/// An entry that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileDifference {
    /// Its path, as the systems see it. In JSON, bytes that are not UTF-8 are `\\x` and two digits.
    #[serde(serialize_with = "crate::escape::serialize_path")]
    pub path: PathBuf,
    /// How it differs.
    #[serde(flatten)]
    pub status: FileStatus,
}

/// How an entry differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum FileStatus {
    /// It is only in the first system.
    OnlyInFirst {
        /// Its type.
        kind: &'static str,
    },
    /// It is only in the second system.
    OnlyInSecond {
        /// Its type.
        kind: &'static str,
    },
    /// It is in both.
    Different {
        /// What differs; at least one.
        attributes: Vec<Attribute>,
    },
}

impl Comparison {
    /// Whether the systems differ. A file that was changed by hand in the same way in both is not
    /// a difference.
    pub fn differs(&self) -> bool {
        !self.packages.is_empty() || !self.files.is_empty()
    }
}

/// Compares two systems. Nothing is written. `progress` is called with the number of entries that
/// have been compared.
///
/// # Errors
/// A system is not found or cannot be mounted, and
/// [`Error::Interrupted`](crate::Error::Interrupted).
pub fn compare(
    host: &Host,
    request: &CompareRequest,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Comparison> {
    let (one, two) = (&*request.first, request.second.as_deref());
    let inventory = match side::is_directory(one) && two.is_some_and(side::is_directory) {
        true => Inventory::default(),
        false => discover::discover(host)?,
    };
    namespace::enter_private_namespace()?;
    let left_out = request.exclude.iter();
    let rules = left_out.fold(Exclude::standard(), |rules, glob| rules.exclude(glob.as_ref()));
    let reading = Reading { rules: &rules, content: request.content, progress };
    let first = Side::open(host, &inventory, Some(one), reading)?;
    let second = Side::open(host, &inventory, two, reading)?;
    let mut comparison = Comparison {
        first: first.name.clone(),
        second: second.name.clone(),
        warnings: [&*first.warnings, &*second.warnings].concat(),
        ..Comparison::default()
    };
    let found = [first.packages()?, second.packages()?];
    let [one, two] = &found;
    let roots = [first.root(), second.root()];
    if found.iter().any(|side| side.database == Some(Database::Rpm)) {
        comparison.warnings.push("the packages of rpm are not compared".into());
    } else {
        comparison.packages = packages(one, two);
    }
    comparison.configuration = configuration::changes(roots, [&one.packages, &two.packages])?;
    let (differences, unread) = match (first.tree()?, second.tree()?) {
        (Some(one), Some(two)) => {
            let findings = compare_trees([&one, &two], &rules, request.content, progress)?;
            comparison.entries = findings.entries;
            (findings.differences, findings.unread)
        }
        _ => {
            let ((one, mut unread), (two, more)) =
                (first.manifest(reading)?, second.manifest(reading)?);
            unread.extend(more);
            comparison.entries = one.len().max(two.len()) as u64;
            (compare_manifests(&one, &two), unread)
        }
    };
    comparison.warnings.extend(unread.into_iter().map(|what| format!("unread: {what}")));
    comparison.files = differences.into_iter().map(file).collect();
    Ok(comparison)
}

fn packages(first: &Installed, second: &Installed) -> Vec<PackageDifference> {
    let mut all: BTreeMap<&str, [Option<&str>; 2]> = BTreeMap::new();
    for (index, side) in [first, second].into_iter().enumerate() {
        for package in &side.packages {
            all.entry(&package.name).or_default()[index] = Some(&package.version);
        }
    }
    let differences = all.into_iter().filter(|(_, [first, second])| first != second);
    let difference = |(name, versions): (&str, [Option<&str>; 2])| {
        let [first, second] = versions.map(|version| version.map(str::to_owned));
        PackageDifference { name: name.to_owned(), first, second }
    };
    differences.map(difference).collect()
}

fn file(difference: Difference) -> FileDifference {
    let status = match difference.how {
        How::OnlyIn(Which::First, kind) => FileStatus::OnlyInFirst { kind: kind_name(kind) },
        How::OnlyIn(Which::Second, kind) => FileStatus::OnlyInSecond { kind: kind_name(kind) },
        How::Changed(attributes) => FileStatus::Different { attributes },
    };
    FileDifference { path: difference.path, status }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::installed_packages::Package;

    #[test]
    fn packages_are_added_removed_or_of_another_version() {
        let system = |packages: &[(&str, &str)]| Installed {
            database: Some(Database::Dpkg),
            packages: packages
                .iter()
                .map(|(name, version)| Package {
                    name: (*name).into(),
                    version: (*version).into(),
                    configuration: Vec::new(),
                })
                .collect(),
        };
        let first = system(&[("apache2", "2.4"), ("openssl", "3.0.11"), ("zlib", "1.2")]);
        let second = system(&[("nginx", "1.22"), ("openssl", "3.0.14"), ("zlib", "1.2")]);
        let difference =
            |name: &str, first: Option<&str>, second: Option<&str>| PackageDifference {
                name: name.into(),
                first: first.map(Into::into),
                second: second.map(Into::into),
            };
        assert_eq!(
            packages(&first, &second),
            [
                difference("apache2", Some("2.4"), None),
                difference("nginx", None, Some("1.22")),
                difference("openssl", Some("3.0.11"), Some("3.0.14")),
            ]
        );
        assert_eq!(packages(&first, &first), []);
    }
}
