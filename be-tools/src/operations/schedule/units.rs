//! The units of a schedule (systemd.timer(5), systemd.service(5)).

use std::path::{Path, PathBuf};

use super::entry::Schedule;
use crate::environment::Id;
use crate::error::Result;
use crate::root_dir::RootDir;

const DIRECTORY: &str = "etc/systemd/system";

pub(super) fn timer_name(id: Id) -> String {
    format!("lifeboat-{}.timer", id.short())
}

pub(super) fn service_name(id: Id) -> String {
    format!("lifeboat-{}.service", id.short())
}

fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

pub(super) fn write(root: &RootDir, schedule: &Schedule) -> Result<()> {
    root.write(path(&service_name(schedule.id)), service(schedule).as_bytes(), 0o644)?;
    root.write(path(&timer_name(schedule.id)), timer(schedule).as_bytes(), 0o644)
}

pub(super) fn remove(root: &RootDir, id: Id) -> Result<()> {
    root.remove(path(&timer_name(id)))?;
    root.remove(path(&service_name(id)))
}

/// What serves comes first: the operation has what is left of the processors and disks.
///
/// Only the main process is told to stop, and passes that on to the operation. That ends what it has
/// begun, such as the package that dpkg works on and the hooks that wake a database, which a signal
/// to all processes would end in the middle. What is still there after half an hour hangs.
fn service(schedule: &Schedule) -> String {
    let Schedule { id, name, action, .. } = schedule;
    format!(
        "# Written by be schedule; be cancel removes it.\n\
        [Unit]\n\
        Description=Lifeboat: {action} {name}\n\
        ConditionPathExists=/usr/lib/lifeboat/be\n\
        \n\
        [Service]\n\
        Type=oneshot\n\
        ExecStart=/usr/lib/lifeboat/be internal-scheduled {id}\n\
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
    use crate::operations::schedule::entry::Action;
    use crate::tool::Tool;

    #[test]
    fn the_units_are_ones_that_systemd_takes() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let schedule = Schedule {
            id: Id::random(),
            name: "nightly".parse().unwrap(),
            calendar: "Mon..Fri 02:30".into(),
            action: Action::Refresh,
            force: false,
            mail: None,
            root: None,
        };
        write(&root, &schedule).unwrap();
        let timer = directory.path().join(path(&timer_name(schedule.id)));
        let text = std::fs::read_to_string(&timer).unwrap();
        assert!(text.contains("\nOnCalendar=Mon..Fri 02:30\n"), "{text}");
        let service = directory.path().join(path(&service_name(schedule.id)));
        let text = std::fs::read_to_string(service).unwrap();
        assert!(text.contains("\nKillMode=mixed\n"), "hooks and dpkg get no signal: {text}");
        // The judge is systemd, where it is installed.
        if Path::new("/usr/bin/systemd-analyze").exists() {
            let verify = Tool::new("systemd-analyze").args(["verify", "--man=no"]).arg(&timer);
            let said = verify.output().unwrap();
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            let ours: Vec<_> =
                said.lines().filter(|line| line.contains(&schedule.id.short())).collect();
            // The program is not installed where this test runs.
            assert!(ours.iter().all(|line| line.contains("not executable")), "{said}");
        }
        remove(&root, schedule.id).unwrap();
        assert!(!timer.exists());
    }
}
