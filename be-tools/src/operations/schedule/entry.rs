//! What is scheduled for a BE: a file in `/etc/lifeboat/schedule`.

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::location::Location;
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
    /// The verb of `be` and its options.
    fn words(self) -> &'static [&'static str] {
        match self {
            Action::Refresh => &["refresh"],
            Action::Upgrade => &["upgrade", "--dist"],
            Action::SecurityFixes => &["upgrade", "--security"],
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
    /// Whether a refresh may lose what changed in a BE that has run, or that the machine starts by
    /// itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Who gets a mail when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mail: Option<String>,
    /// Where its root was when it was scheduled. Older versions did not note it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<Location>,
    /// Where the other file systems and the swap were that were made for it. Older versions did not
    /// note them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub others: Option<Vec<Location>>,
    /// The BE from which it was refreshed then, if that was there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// A source, and where its file systems were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its id.
    pub id: Id,
    /// Where each file system was that a copy of it may be made from.
    pub places: Vec<Location>,
}

#[cfg(test)]
impl Schedule {
    /// A refresh of a BE that no machine has, for tests.
    pub(in crate::operations) fn example(name: &str) -> Self {
        Schedule { calendar: "daily".into(), ..Self::unknown(Id::random(), name.parse().unwrap()) }
    }
}

impl Schedule {
    /// The path of its file, from the root.
    pub(super) fn path(id: Id) -> PathBuf {
        Path::new(DIRECTORY).join(format!("{id}.toml"))
    }

    /// The arguments of `be`.
    pub(super) fn arguments(&self) -> Vec<String> {
        let words = self.action.words().iter().copied().map(str::to_owned);
        let force = self.force.then(|| "--force".into());
        let options = ["--unattended".into(), "--yes".into()];
        words.chain(options).chain(force).chain([self.id.to_string()]).collect()
    }

    /// What is done, for people.
    pub fn what(&self) -> String {
        format!("{}{}", self.action, if self.force { " --force" } else { "" })
    }

    pub(super) fn store(&self, root: &RootDir) -> Result<()> {
        let text = toml::to_string(self)
            .map_err(|why| Error::Failed(format!("writing a schedule: {why}")))?;
        root.write(Self::path(self.id), text.as_bytes(), 0o644)
    }

    /// Removes every file for this BE.
    pub(super) fn remove(root: &RootDir, id: Id) -> Result<()> {
        Self::remove_old(root, id)?;
        root.remove(Self::path(id))
    }

    /// Removes the file that an older version wrote for this BE. Its name had only the beginning of
    /// the id.
    pub(super) fn remove_old(root: &RootDir, id: Id) -> Result<()> {
        let is_old = |path: &PathBuf| {
            *path != Self::path(id) && Self::load(root, path).is_ok_and(|found| found.id == id)
        };
        files(root)?.into_iter().filter(is_old).try_for_each(|path| root.remove(path))
    }

    /// What is scheduled for a BE. A file that is not a schedule is passed over, with a warning.
    pub(super) fn of(root: &RootDir, id: Id) -> Result<Option<Self>> {
        Ok(Self::readable(root)?.into_iter().find(|schedule| schedule.id == id))
    }

    /// The same, for an operation that nobody watches: what its own file says has to be known.
    ///
    /// # Errors
    /// It is not a schedule.
    pub(super) fn known(root: &RootDir, id: Id) -> Result<Option<Self>> {
        let own = Self::path(id);
        match root.exists(&own) {
            true => Self::load(root, &own).map(Some),
            false => Self::of(root, id),
        }
    }

    /// Every schedule of a system, for a person who looks at them.
    ///
    /// # Errors
    /// One of the files is none, and which one.
    pub(super) fn all(root: &RootDir) -> Result<Vec<Self>> {
        let all = loaded(root)?.into_iter().map(|(path, found)| Ok((path, found?)));
        Ok(newest(all.collect::<Result<_>>()?))
    }

    /// Those that can be read, for what is done for one of them: a file that is none stops only itself.
    pub(super) fn readable(root: &RootDir) -> Result<Vec<Self>> {
        let readable = |(path, found): (PathBuf, Result<Self>)| match found {
            Ok(schedule) => Some((path, schedule)),
            Err(why) => {
                log::warn!("{why}");
                None
            }
        };
        Ok(newest(loaded(root)?.into_iter().filter_map(readable).collect()))
    }

    /// What stands for one whose file cannot be read.
    pub(super) fn unknown(id: Id, name: Name) -> Self {
        Schedule {
            id,
            name,
            calendar: "an unknown time".into(),
            action: Action::Refresh,
            force: false,
            mail: None,
            root: None,
            others: None,
            source: None,
        }
    }

    /// The ids of those whose files cannot be read.
    pub(super) fn unreadable(root: &RootDir) -> Result<Vec<Id>> {
        let bad = loaded(root)?.into_iter().filter(|(_, found)| found.is_err());
        Ok(bad.filter_map(|(path, _)| path.file_stem()?.to_str()?.parse().ok()).collect())
    }

    fn load(root: &RootDir, path: &Path) -> Result<Self> {
        let text = root.text(path)?.unwrap_or_default();
        toml::from_str(&text).map_err(|why| Error::Format {
            path: root.path().join(path),
            why: format!("it is not a schedule ({}): remove it, and schedule again", why.message()),
        })
    }
}

/// Every file that may be a schedule, and what is in it.
fn loaded(root: &RootDir) -> Result<Vec<(PathBuf, Result<Schedule>)>> {
    let load = |path: PathBuf| {
        let found = Schedule::load(root, &path);
        (path, found)
    };
    Ok(files(root)?.into_iter().map(load).collect())
}

/// One for each BE: that in the file named by its id, if an older version left another one.
fn newest(files: Vec<(PathBuf, Schedule)>) -> Vec<Schedule> {
    let mut all: Vec<Schedule> = Vec::new();
    for (path, schedule) in files {
        let is_named = path == Schedule::path(schedule.id);
        match all.iter_mut().find(|other| other.id == schedule.id) {
            Some(other) if is_named => *other = schedule,
            Some(_) => {}
            None => all.push(schedule),
        }
    }
    all
}

/// The files that may be schedules, as paths from the root.
fn files(root: &RootDir) -> Result<Vec<PathBuf>> {
    let names = root.names(DIRECTORY)?.into_iter();
    let paths = names.map(|name| Path::new(DIRECTORY).join(name));
    Ok(paths.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect())
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
            force: false,
            mail: Some("root".into()),
            root: Some(Location { uuid: "aaaa-02".into(), ..Location::default() }),
            others: Some(vec![Location { uuid: "bbbb-02".into(), ..Location::default() }]),
            source: Some(Source {
                id: Id::random(),
                places: vec![Location { uuid: "aaaa-01".into(), ..Location::default() }],
            }),
        };
        schedule.store(&root).unwrap();
        assert_eq!(Schedule::all(&root).unwrap(), std::slice::from_ref(&schedule));
        let file = directory.path().join(Schedule::path(schedule.id));
        std::fs::write(&file, "id = 7").unwrap();
        Schedule::all(&root).unwrap_err();
        let error = Schedule::known(&root, schedule.id).unwrap_err().to_string();
        assert!(error.contains(&file.display().to_string()), "{error}");
        assert_eq!(Schedule::of(&root, schedule.id).unwrap(), None);
        Schedule::remove(&root, schedule.id).unwrap();
        assert_eq!(Schedule::all(&root).unwrap(), []);
    }

    #[test]
    fn one_bad_schedule_stops_only_itself() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let [bad, good] = ["bad", "good"].map(Schedule::example);
        good.store(&root).unwrap();
        root.write(Schedule::path(bad.id), b"id = 7", 0o644).unwrap();
        assert_eq!(Schedule::readable(&root).unwrap(), std::slice::from_ref(&good));
        let named = Schedule::all(&root).unwrap_err().to_string();
        assert!(named.contains(&bad.id.to_string()), "{named}");
        assert_eq!(Schedule::known(&root, good.id).unwrap(), Some(good));
        assert!(Schedule::known(&root, bad.id).is_err());
        assert_eq!(Schedule::known(&root, Id::random()).unwrap(), None);
    }

    #[test]
    fn files_are_named_by_the_whole_id_and_old_ones_are_read_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let [one, other] = ["11111111", "22222222"].map(|end| Schedule {
            id: format!("2f0c1a94-7d0b-4d6a-9b1e-1c2f{end}").parse().unwrap(),
            ..Schedule::example(&format!("be-{end}"))
        });
        let write_old = |schedule: &Schedule| {
            let path = Path::new(DIRECTORY).join(format!("{}.toml", schedule.id.short()));
            root.write(path, toml::to_string(schedule).unwrap().as_bytes(), 0o644).unwrap();
        };
        write_old(&one);
        assert_eq!(Schedule::all(&root).unwrap(), std::slice::from_ref(&one));
        // Their ids begin with the same digits.
        other.store(&root).unwrap();
        assert_eq!(Schedule::all(&root).unwrap().len(), 2);
        Schedule::remove(&root, other.id).unwrap();
        assert_eq!(Schedule::of(&root, one.id).unwrap().as_ref(), Some(&one));
        let newer = Schedule { calendar: "weekly".into(), ..one.clone() };
        newer.store(&root).unwrap();
        assert_eq!(Schedule::all(&root).unwrap(), std::slice::from_ref(&newer));
        Schedule::remove(&root, one.id).unwrap();
        assert_eq!(Schedule::all(&root).unwrap(), []);
    }

    #[test]
    fn a_timer_refreshes_unattended_and_with_force_only_if_it_was_asked_for() {
        let mut schedule = Schedule::example("nightly");
        let id = schedule.id;
        let line = |schedule: &Schedule| schedule.arguments().join(" ");
        assert_eq!(line(&schedule), format!("refresh --unattended --yes {id}"));
        schedule.force = true;
        assert_eq!(line(&schedule), format!("refresh --unattended --yes --force {id}"));
        assert_eq!(schedule.what(), "refresh --force");
        let text = toml::to_string(&schedule).unwrap();
        assert_eq!(toml::from_str::<Schedule>(&text).unwrap(), schedule);
    }
}
