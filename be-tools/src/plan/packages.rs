//! What a plan does to the packages of a BE.

use serde::Serialize;

/// What happens to the packages of a BE.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackageChanges {
    /// The packages that change, sorted by name.
    pub changes: Vec<PackageChange>,
    /// Packages that have a newer version which is not installed.
    pub kept_back: Vec<String>,
    /// Bytes that have to be downloaded.
    pub download: u64,
    /// Bytes by which the installed packages become larger, or smaller if it is negative; `None` if
    /// the package manager does not tell.
    pub growth: Option<i64>,
}

/// A package that changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackageChange {
    /// Its name; `NAME:ARCHITECTURE` if that is not the system's own.
    pub name: String,
    /// The version that is installed now.
    pub from: Option<String>,
    /// The version that is installed then.
    pub to: Option<String>,
}

/// What happens to a package.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// It is replaced by another version.
    Upgraded,
    /// It is new.
    New,
    /// It is removed.
    Removed,
}

impl PackageChange {
    /// What happens to it.
    pub fn kind(&self) -> ChangeKind {
        match (&self.from, &self.to) {
            (Some(_), Some(_)) => ChangeKind::Upgraded,
            (None, _) => ChangeKind::New,
            (Some(_), None) => ChangeKind::Removed,
        }
    }
}

impl PackageChanges {
    /// The packages to which this happens.
    pub fn of(&self, kind: ChangeKind) -> impl Iterator<Item = &PackageChange> {
        self.changes.iter().filter(move |change| change.kind() == kind)
    }

    /// How many packages are there afterwards that are not there now, as such or in this version.
    pub fn installed(&self) -> usize {
        self.changes.iter().filter(|change| change.to.is_some()).count()
    }

    /// `12 upgraded, 3 new, 1 removed, 2 kept back`
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        for (kind, word) in [
            (ChangeKind::Upgraded, "upgraded"),
            (ChangeKind::New, "new"),
            (ChangeKind::Removed, "removed"),
        ] {
            let count = self.of(kind).count();
            parts.extend((count > 0).then(|| format!("{count} {word}")));
        }
        let kept = self.kept_back.len();
        parts.extend((kept > 0).then(|| format!("{kept} kept back")));
        if parts.is_empty() { "no package changes".into() } else { parts.join(", ") }
    }
}
