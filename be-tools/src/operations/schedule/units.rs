//! The units of a schedule (systemd.timer(5), systemd.service(5)).

use std::path::{Path, PathBuf};

use super::entry::Schedule;
use crate::environment::Id;
use crate::error::Result;
use crate::root_dir::RootDir;

const DIRECTORY: &str = "etc/systemd/system";

/// The names of the two units of a BE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Units {
    pub(super) timer: String,
    pub(super) service: String,
}

impl Units {
    /// Those of the BE with this id.
    pub(super) fn of(id: Id) -> Self {
        Self::named(&id.to_string())
    }

    fn named(stem: &str) -> Self {
        let unit = |kind: &str| format!("lifeboat-{stem}.{kind}");
        Units { timer: unit("timer"), service: unit("service") }
    }

    /// Those that an older version made for this BE, if there are any. They had only the beginning
    /// of the id, which another BE may have too.
    ///
    /// # Errors
    /// They cannot be read.
    pub(super) fn old(root: &RootDir, id: Id) -> Result<Option<Self>> {
        let units = Self::named(&id.short());
        let text = root.text(path(&units.service))?.unwrap_or_default();
        Ok(text.contains(&command(id)).then_some(units))
    }

    pub(super) fn remove(&self, root: &RootDir) -> Result<()> {
        root.remove(path(&self.timer))?;
        root.remove(path(&self.service))
    }
}

/// What the service runs.
fn command(id: Id) -> String {
    format!("/usr/lib/lifeboat/be internal-scheduled {id}\n")
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

pub(super) fn write(root: &RootDir, schedule: &Schedule) -> Result<()> {
    let units = Units::of(schedule.id);
    root.write(path(&units.service), service(schedule).as_bytes(), 0o644)?;
    root.write(path(&units.timer), timer(schedule).as_bytes(), 0o644)
}

/// What serves comes first: the operation has what is left of the processors and disks.
///
/// Only the main process is told to stop, and passes that on to the operation. That ends what it has
/// begun, such as the package that dpkg works on and the hooks that wake a database, which a signal
/// to all processes would end in the middle. What is still there after half an hour hangs.
fn service(schedule: &Schedule) -> String {
    let Schedule { id, name, action, .. } = schedule;
    let command = command(*id);
    format!(
        "# Written by be schedule; be cancel removes it.\n\
        [Unit]\n\
        Description=Lifeboat: {action} {name}\n\
        ConditionPathExists=/usr/lib/lifeboat/be\n\
        \n\
        [Service]\n\
        Type=oneshot\n\
        ExecStart={command}\
        Nice=19\n\
        CPUWeight=idle\n\
        IOSchedulingClass=idle\n\
        IOWeight=1\n\
        TimeoutStartSec=infinity\n\
        KillMode=mixed\n\
        TimeoutStopSec=30min\n"
    )
}

/// A run that was missed while the machine was off is not made up for: at boot, it could copy a
/// system that does not come up.
fn timer(schedule: &Schedule) -> String {
    let Schedule { name, calendar, .. } = schedule;
    // A percent sign begins a specifier (systemd.unit(5)).
    let calendar = calendar.replace('%', "%%");
    format!(
        "# Written by be schedule; be cancel removes it.\n\
        [Unit]\n\
        Description=Lifeboat: when {name} is brought up to date\n\
        \n\
        [Timer]\n\
        OnCalendar={calendar}\n\
        AccuracySec=1min\n\
        Persistent=false\n\
        \n\
        [Install]\n\
        WantedBy=timers.target\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Tool;

    #[test]
    fn the_units_are_ones_that_systemd_takes() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let schedule =
            Schedule { calendar: "Mon..Fri 02:30".into(), ..Schedule::example("nightly") };
        write(&root, &schedule).unwrap();
        let timer = directory.path().join(path(&Units::of(schedule.id).timer));
        let text = std::fs::read_to_string(&timer).unwrap();
        assert!(text.contains("\nOnCalendar=Mon..Fri 02:30\n"), "{text}");
        let service = directory.path().join(path(&Units::of(schedule.id).service));
        let text = std::fs::read_to_string(service).unwrap();
        assert!(text.contains("\nKillMode=mixed\n"), "hooks and dpkg get no signal: {text}");
        // The judge is systemd, where it is installed.
        if Path::new("/usr/bin/systemd-analyze").exists() {
            let verify = Tool::new("systemd-analyze").args(["verify", "--man=no"]).arg(&timer);
            let said = verify.output().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            let ours: Vec<_> =
                said.lines().filter(|line| line.contains(&schedule.id.to_string())).collect();
            // The program is not installed where this test runs.
            assert!(ours.iter().all(|line| line.contains("not executable")), "{said}");
        }
        Units::of(schedule.id).remove(&root).unwrap();
        assert!(!timer.exists());
    }

    #[test]
    fn units_of_an_older_version_are_those_of_the_whole_id() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let [one, other] = ["11111111", "22222222"]
            .map(|end| format!("2f0c1a94-7d0b-4d6a-9b1e-1c2f{end}").parse().unwrap());
        assert_ne!(Units::of(one), Units::of(other), "they begin with the same digits");
        assert_eq!(Units::old(&root, one).unwrap(), None);
        let old = format!("[Service]\nExecStart=/usr/lib/lifeboat/be internal-scheduled {one}\n");
        root.write(path("lifeboat-2f0c1a94.service"), old.as_bytes(), 0o644).unwrap();
        assert_eq!(Units::old(&root, one).unwrap(), Some(Units::named("2f0c1a94")));
        assert_eq!(Units::old(&root, other).unwrap(), None);
    }
}
