//! One shell command, its time, and the memory of its largest process.

use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;

use super::loops::path;
use super::{signals, sys};

/// What a command calls by a name: `SOURCE`, `TARGET_DEVICE`.
pub type Names = Vec<(&'static str, String)>;

/// One run of a command.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub seconds: f64,
    /// Resident, of its largest process.
    pub peak_kib: u64,
}

/// Runs a command of bash in which any failure is the end, also within a pipe.
pub fn time(script: &str, names: &Names) -> Result<Run> {
    signals::go_on()?;
    let mut errors = tempfile::tempfile().context("making a temporary file")?;
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -eo pipefail\n{script}")]);
    command
        .env("PATH", path())
        .env("LC_ALL", "C.UTF-8")
        .envs(names.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?).process_group(0);
    let start = Instant::now();
    let child = command.spawn().context("starting bash")?;
    signals::running(Pid::from_raw(child.id().cast_signed()));
    let ended = sys::wait(child);
    let seconds = start.elapsed().as_secs_f64();
    signals::running(None);
    let (status, peak_kib) = ended.context("waiting for a command")?;
    signals::go_on()?;
    if !status.success() {
        let mut said = String::new();
        errors.rewind()?;
        errors.read_to_string(&mut said)?;
        let last: Vec<&str> = said.lines().rev().take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        ensure!(status.success(), "`{script}` failed: {status}: {}", last.join("; "));
    }
    Ok(Run { seconds, peak_kib })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_within_a_pipe_is_a_failure() {
        assert!(time("false | true", &Names::new()).is_err());
        let error = time("echo why >&2; exit \"$N\"", &vec![("N", "3".to_owned())]).unwrap_err();
        assert!(error.to_string().ends_with("exit status: 3: why"), "{error}");
    }

    #[test]
    fn the_memory_is_that_of_the_largest_process() {
        let run = time("head -c 100M /dev/zero | tail -n 1", &Names::new()).unwrap();
        assert!((90 << 10..200 << 10).contains(&run.peak_kib), "{} KiB", run.peak_kib);
    }
}
