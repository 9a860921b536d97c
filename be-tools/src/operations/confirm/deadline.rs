//! What lifeboat-deadline.service does: a trial that is not confirmed in time is reset, also from
//! emergency mode.

use std::time::{Duration, Instant};

use super::running::{is_default, trial};
use crate::environment::Trial;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::plan::go_on;
use crate::tool::Tool;

/// How often the record is looked at until it can be read: the ESP's disk may appear late.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits until the running trial is confirmed, or restarts the machine after `limit`. Returns at
/// once when this boot is no trial, and never restarts what the firmware would start again. `say`
/// is told of a restart.
///
/// # Errors
/// When it never became clear whether this boot is a trial, and when systemd does not restart the
/// machine.
pub fn deadline(host: &Host, limit: Duration, say: impl Fn(&str)) -> Result<()> {
    let start = Instant::now();
    let mut is_trial = false;
    loop {
        let found = trial(host);
        match &found {
            Ok(Some(Trial::Running)) => is_trial = true,
            Ok(_) => return Ok(()),
            Err(e) => log::info!("{e}"),
        }
        if start.elapsed() >= limit {
            // Confirmed, when the record could not be read any more.
            if is_trial && !is_default(host).unwrap_or(false) {
                break;
            }
            return found.map(drop);
        }
        // Once it is known, the record is looked at rarely: each look mounts the ESP where nothing
        // else has.
        let pause = if is_trial {
            limit.saturating_sub(start.elapsed()).min(Duration::from_secs(30))
        } else {
            PATIENCE
        };
        wait(pause)?;
    }
    say(&format!("the trial was not confirmed within {} seconds: restarting", limit.as_secs()));
    // Whatever hangs must not hold up the restart: no unit is stopped, nothing is unmounted.
    rustix::fs::sync();
    Tool::new("systemctl")
        .args(["reboot", "--force", "--force"])
        .run()
        .map_err(Error::from)
        .map(drop)
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
