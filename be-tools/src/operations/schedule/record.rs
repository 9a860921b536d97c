//! How a scheduled operation went: a file in `/var/lib/lifeboat/schedule` for `be schedule`, and one
//! for the node exporter of Prometheus (its textfile collector).

use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::entry::Schedule;
use crate::environment::Id;
use crate::error::{Doing, Result};
use crate::root_dir::RootDir;

const DIRECTORY: &str = "var/lib/lifeboat/schedule";

/// Where Debian's package of the node exporter looks for files; else they lie beside the records.
const COLLECTED: &str = "var/lib/prometheus/node-exporter";

/// How the last runs went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When it was last run, in seconds since 1970.
    pub last_run: Option<u64>,
    /// When it last succeeded, in seconds since 1970.
    pub last_success: Option<u64>,
    /// The exit status of the last run.
    pub last_status: Option<u8>,
}

impl Record {
    fn path(id: Id) -> PathBuf {
        Path::new(DIRECTORY).join(format!("{id}.json"))
    }

    /// Where an older version wrote it, under the beginning of the id.
    fn old_path(id: Id) -> PathBuf {
        Path::new(DIRECTORY).join(format!("{}.json", id.short()))
    }

    /// The record of a BE. One that cannot be parsed is as none: the next run writes it again.
    pub(super) fn load(root: &RootDir, id: Id) -> Result<Self> {
        let bytes = match root.read(Self::path(id))? {
            Some(bytes) => bytes,
            None => root.read(Self::old_path(id))?.unwrap_or_default(),
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    pub(super) fn remove(root: &RootDir, id: Id) -> Result<()> {
        root.remove(Self::path(id))
    }

    /// Removes what an older version wrote.
    pub(super) fn remove_old(root: &RootDir, id: Id) -> Result<()> {
        root.remove(Self::old_path(id))
    }

    pub(super) fn store(&self, root: &RootDir, id: Id) -> Result<()> {
        let text = serde_json::to_vec(self).doing(|| "writing a record".into())?;
        root.write(Self::path(id), &text, 0o644)
    }
}

/// Writes the file for the node exporter, about everything that is scheduled.
///
/// # Errors
/// It cannot be written.
pub(super) fn write_metrics(root: &RootDir) -> Result<()> {
    let mut records = Vec::new();
    for schedule in Schedule::readable(root)? {
        let record = Record::load(root, schedule.id)?;
        records.push((schedule.id, schedule.name.to_string(), record));
    }
    // One that cannot be read any more does not become silent.
    for id in Schedule::unreadable(root)? {
        records.push((id, id.to_string(), Record::load(root, id)?));
    }
    let directory = if root.exists(COLLECTED) { COLLECTED } else { DIRECTORY };
    root.write(Path::new(directory).join("lifeboat.prom"), metrics(&records).as_bytes(), 0o644)
}

/// The exposition format of Prometheus. Names need no quoting: see [`crate::environment::Name`].
fn metrics(all: &[(Id, String, Record)]) -> String {
    let mut text = String::new();
    let mut add = |metric: &str, help: &str, value: &dyn Fn(&Record) -> Option<u64>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {metric} {help}\n# TYPE {metric} gauge");
        for (id, name, record) in all {
            if let Some(value) = value(record) {
                let _ = writeln!(text, "{metric}{{id=\"{id}\",name=\"{name}\"}} {value}");
            }
        }
    };
    let (run, success, status) = (
        "lifeboat_schedule_last_run_timestamp_seconds",
        "lifeboat_schedule_last_success_timestamp_seconds",
        "lifeboat_schedule_last_status",
    );
    add(run, "When the scheduled operation was last run.", &|record| record.last_run);
    add(success, "When it last succeeded.", &|record| record.last_success);
    add(status, "Its last exit status.", &|record| record.last_status.map(u64::from));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_and_metrics_say_when_it_last_succeeded() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let schedule = Schedule::example("nightly");
        assert_eq!(Record::load(&root, schedule.id).unwrap(), Record::default());
        let record = Record { last_run: Some(20), last_success: Some(10), last_status: Some(1) };
        record.store(&root, schedule.id).unwrap();
        assert_eq!(Record::load(&root, schedule.id).unwrap(), record);
        let (new, old) = (Record::path(schedule.id), Record::old_path(schedule.id));
        std::fs::rename(directory.path().join(new), directory.path().join(old)).unwrap();
        assert_eq!(Record::load(&root, schedule.id).unwrap(), record, "an older version wrote it");
        record.store(&root, schedule.id).unwrap();
        Record::remove_old(&root, schedule.id).unwrap();
        let place =
            |directory_name: &str| directory.path().join(directory_name).join("lifeboat.prom");
        schedule.store(&root).unwrap();
        write_metrics(&root).unwrap();
        let text = std::fs::read_to_string(place(DIRECTORY)).unwrap();
        let line = format!(
            "lifeboat_schedule_last_success_timestamp_seconds{{id=\"{}\",name=\"nightly\"}} 10\n",
            schedule.id
        );
        assert!(text.contains(&line), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), 3);
        Record::remove(&root, schedule.id).unwrap();
        assert_eq!(Record::load(&root, schedule.id).unwrap(), Record::default());
        std::fs::create_dir_all(directory.path().join(COLLECTED)).unwrap();
        root.write(Schedule::path(schedule.id), b"id = 7", 0o644).unwrap();
        record.store(&root, schedule.id).unwrap();
        write_metrics(&root).unwrap();
        let text = std::fs::read_to_string(place(COLLECTED)).unwrap();
        assert!(text.contains(&format!("name=\"{}\"}} 1", schedule.id)), "{text}");
    }
}
