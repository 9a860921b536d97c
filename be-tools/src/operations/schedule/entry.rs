//! What is scheduled for a BE: a file in `/etc/lifeboat/schedule`.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::environment::{Id, Name};
use crate::error::{Error, Result};
use crate::root_dir::RootDir;

const DIRECTORY: &str = "etc/lifeboat/schedule";

/// What is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// It is brought up to date with its source.
    #[default]
    Refresh,
    /// All its packages are upgraded.
    Upgrade,
    /// Security fixes are installed.
    SecurityFixes,
}

impl Action {
    /// The arguments of `be` for the BE with this id.
    pub(super) fn arguments(self, id: &str) -> Vec<&str> {
        match self {
            Action::Refresh => vec!["refresh", id, "--yes"],
            Action::Upgrade => vec!["upgrade", id, "--yes", "--dist"],
            Action::SecurityFixes => vec!["upgrade", id, "--yes", "--security"],
        }
    }
}

impl Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Refresh => "refresh",
            Action::Upgrade => "upgrade --dist",
            Action::SecurityFixes => "upgrade --security",
        })
    }
}

/// What is scheduled for a BE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The id of the BE.
    pub id: Id,
    /// Its name when it was scheduled.
    pub name: Name,
    /// When: a calendar event (systemd.time(7)).
    pub calendar: String,
    /// What is done.
    pub action: Action,
    /// Who gets a mail when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
}

impl Schedule {
    /// The path of its file, from the root.
    pub(super) fn path(id: Id) -> PathBuf {
        Path::new(DIRECTORY).join(format!("{}.toml", id.short()))
    }

    pub(super) fn store(&self, root: &RootDir) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|why| Error::Failed(format!("writing a schedule: {why}")))?;
        root.write(Self::path(self.id), text.as_bytes(), 0o644)
    }

    pub(super) fn remove(&self, root: &RootDir) -> Result<()> {
        root.remove(Self::path(self.id))
    }

    /// Every schedule of a system.
    pub(super) fn all(root: &RootDir) -> Result<Vec<Self>> {
        let names = root.names(DIRECTORY)?.into_iter();
        let paths = names.map(|name| Path::new(DIRECTORY).join(name));
        let files = paths.filter(|path| path.extension().is_some_and(|end| end == "toml"));
        files.map(|path| Self::load(root, &path)).collect()
    }

    fn load(root: &RootDir, path: &Path) -> Result<Self> {
        let text = root.text(path)?.unwrap_or_default();
        toml::from_str(&text).map_err(|why| Error::Format {
            path: root.path().join(path),
            why: format!("it is not a schedule ({}): remove it, and schedule again", why.message()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_read_as_it_was_written_and_garbage_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        assert_eq!(Schedule::all(&root).unwrap(), []);
        let schedule = Schedule {
            id: Id::random(),
            name: "nightly".parse().unwrap(),
            calendar: "Mon..Fri 02:30".into(),
            action: Action::SecurityFixes,
            mail: Some("root".into()),
        };
        schedule.store(&root).unwrap();
        assert_eq!(Schedule::all(&root).unwrap(), std::slice::from_ref(&schedule));
        let file = directory.path().join(Schedule::path(schedule.id));
        std::fs::write(&file, "id = 7").unwrap();
        let error = Schedule::all(&root).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        schedule.remove(&root).unwrap();
        assert_eq!(Schedule::all(&root).unwrap(), []);
    }
}
