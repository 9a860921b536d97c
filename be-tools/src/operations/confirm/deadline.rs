//! What lifeboat-deadline.service does: it restarts the machine if a trial is not confirmed in
//! time, even from emergency mode.

use std::time::{Duration, Instant};

use super::running::{is_default, trial};
use crate::environment::Trial;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::go_on;
use crate::tool::Tool;

/// The pause between two attempts to read the record of the trial: the ESP's disk may appear late.
const PAUSE: Duration = Duration::from_secs(2);

/// Waits until the running trial is confirmed, or restarts the machine after `limit`. Returns at
/// once if this boot is not a trial, and never restarts if the firmware would start the same BE
/// again. A restart is announced through `say`.
///
/// # Errors
/// Within `limit` the record of the trial could not be read, or systemd does not restart the
/// machine.
pub fn deadline(host: &Host, limit: Duration, say: impl Fn(&str)) -> Result<()> {
    let start = Instant::now();
    let mut is_trial = false;
    // To read the record mounts the ESP for a moment if it is not mounted, and read-only: then
    // systemd could not mount it for writing, and would end in emergency mode. A mount that hangs is
    // no reason never to look.
    while start.elapsed() < limit / 2 && file_systems_are_awaited() {
        wait(Duration::from_millis(500))?;
    }
    loop {
        let found = trial(host);
        match &found {
            Ok(Some(Trial::Running)) => is_trial = true,
            Ok(_) => return Ok(()),
            Err(e) => log::info!("{e}"),
        }
        if start.elapsed() >= limit {
            // The default BE is confirmed, even if its record can no longer be read.
            if is_trial && !is_default(host).unwrap_or(false) {
                break;
            }
            return found.map(drop);
        }
        // Once the trial is known, its record is read rarely: if the ESP is not mounted, each
        // reading mounts it.
        let pause = if is_trial {
            limit.saturating_sub(start.elapsed()).min(Duration::from_secs(30))
        } else {
            PAUSE
        };
        wait(pause)?;
    }
    say(&format!("the trial was not confirmed within {} seconds: restarting", limit.as_secs()));
    // A unit or a file system that hangs must not delay the restart, so systemd stops no units and
    // unmounts nothing.
    rustix::fs::sync();
    Tool::new("systemctl")
        .args(["reboot", "--force", "--force"])
        .run()
        .map_err(Error::from)
        .map(drop)
}

/// Whether systemd has yet to mount something that fstab(5) names. In emergency mode it has not.
fn file_systems_are_awaited() -> bool {
    let jobs = Tool::new("systemctl").args(["list-jobs", "--no-legend", "--plain"]).output();
    jobs.is_ok_and(|jobs| have_mount(&String::from_utf8_lossy(&jobs.stdout)))
}

/// Whether one of these jobs is a mount, or waits for all of them: `87 boot-efi.mount start waiting`.
fn have_mount(jobs: &str) -> bool {
    let units = jobs.lines().filter_map(|line| line.split_whitespace().nth(1));
    units.into_iter().any(|unit| unit == "local-fs.target" || unit.ends_with(".mount"))
}

fn wait(pause: Duration) -> Result<()> {
    let end = Instant::now() + pause;
    while Instant::now() < end {
        go_on()?;
        std::thread::sleep(
            Duration::from_millis(200).min(end.saturating_duration_since(Instant::now())),
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_read_once_systemd_has_mounted_what_it_mounts() {
        for (jobs, expected) in [
            ("87 local-fs.target start waiting\n", true),
            ("12 systemd-udevd.service start running\n88 boot-efi.mount start running\n", true),
            ("12 systemd-udevd.service start running\n", false),
            ("", false),
        ] {
            assert_eq!(have_mount(jobs), expected, "{jobs:?}");
        }
    }
}
