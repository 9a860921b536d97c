//! What is installed, as every package manager describes it.

use std::path::PathBuf;

/// The largest file of a package manager that is read, in bytes. That of a desktop has some
/// megabytes.
pub(super) const MAX_DATABASE: u64 = 64 << 20;

/// The form in which a system keeps the list of its packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Database {
    /// Of Debian and what comes from it.
    Dpkg,
    /// Of Arch Linux.
    Pacman,
    /// Of Alpine Linux.
    Apk,
    /// Of Fedora, openSUSE and others.
    Rpm,
}

/// The packages of a system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    /// The form of its list, if it has one that is known.
    pub database: Option<Database>,
    /// Sorted by name. Empty if the form is [`Database::Rpm`].
    pub packages: Vec<Package>,
}

/// An installed package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name; `NAME:ARCHITECTURE` where it can be installed for several at a time.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its configuration files as they were installed.
    pub configuration: Vec<ConfigurationFile>,
}

/// A configuration file as its package installed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationFile {
    /// Its path, from the root.
    pub path: PathBuf,
    /// The MD5 of its content, 32 hex digits.
    pub md5: String,
}

/// Whether a text is an MD5 in hexadecimal.
pub(super) fn is_md5(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit())
}
