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
