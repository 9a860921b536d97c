//! Measures the time of a shell command, and the memory of its largest process.

use std::io::{Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use ::tests::programs::path;
use anyhow::{Context, Result, ensure};
use rustix::process::Pid;

use super::{signals, sys};

/// Environment variables of a command, such as `SOURCE` and `TARGET_DEVICE`.
pub type Variables = Vec<(&'static str, String)>;

/// A measured run of a command.
#[derive(Clone, Copy, Debug)]
pub struct Run {
    pub seconds: f64,
    /// The resident set of its largest process.
    pub peak_kib: u64,
}

/// Runs a bash script that stops at the first failure, also within a pipe.
pub fn time(script: &str, variables: &Variables) -> Result<Run> {
    signals::check()?;
    let mut errors = tempfile::tempfile().context("creating a temporary file")?;
    let mut command = Command::new("bash");
    command.args(["-c", &format!("set -eo pipefail\n{script}")]);
    command
        .env("PATH", path())
        .env("LC_ALL", "C.UTF-8")
        .envs(variables.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.try_clone()?).process_group(0);
    let start = Instant::now();
    let child = command.spawn().context("starting bash")?;
    signals::set_running(Pid::from_raw(child.id().cast_signed()));
    let ended = sys::wait(child);
    let seconds = start.elapsed().as_secs_f64();
    signals::set_running(None);
    let (status, peak_kib) = ended.context("waiting for a command")?;
    signals::check()?;
    if !status.success() {
        let mut text = String::new();
        errors.rewind()?;
        errors.read_to_string(&mut text)?;
        let last: Vec<&str> = text.lines().rev().take(3).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        ensure!(status.success(), "`{script}` failed: {status}: {}", last.join("; "));
    }
    Ok(Run { seconds, peak_kib })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_within_a_pipe_is_reported() {
        assert!(time("false | true", &Variables::new()).is_err());
        let error = time("echo why >&2; exit \"$N\"", &vec![("N", "3".to_owned())]).unwrap_err();
        assert!(error.to_string().ends_with("exit status: 3: why"), "{error}");
    }

    #[test]
    fn the_memory_is_that_of_the_largest_process() {
        let run = time("head -c 100M /dev/zero | tail -n 1", &Variables::new()).unwrap();
        assert!((90 << 10..200 << 10).contains(&run.peak_kib), "{} KiB", run.peak_kib);
    }
}
