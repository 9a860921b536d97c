//! The health checks: executables that must all exit with 0 before a trial is confirmed.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Doing, Error, Result};
use crate::session::hooks;

/// The directory that they lie in, relative to the root.
const DIRECTORY: &str = "etc/lifeboat/health.d";

/// How long one of them may take.
pub(super) const TIME: Duration = Duration::from_secs(60);

/// Runs all of them, in the order of their names.
///
/// # Errors
/// [`Error::HealthCheck`], and those of [`hooks::executables`].
pub(super) fn run(root: &Path, limit: Duration) -> Result<()> {
    hooks::executables(&root.join(DIRECTORY))?.iter().try_for_each(|check| run_one(check, limit))
}

fn run_one(check: &Path, limit: Duration) -> Result<()> {
    log::info!("running the health check {}", check.display());
    let mut child =
        Command::new(check).stdin(Stdio::null()).spawn().at("starting the health check", check)?;
    let failed = |outcome| Err(Error::HealthCheck { check: check.to_owned(), outcome });
    let start = Instant::now();
    loop {
        match child.try_wait().at("waiting for the health check", check)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                return failed(format!("failed ({status})"));
            }
            None if start.elapsed() > limit => {
                // It has failed, even if it ends before it can be killed.
                let _ = child.kill();
                let _ = child.wait();
                return failed(format!("did not end within {} seconds", limit.as_secs()));
            }
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn every_health_check_must_succeed_in_time() {
        let root = tempfile::tempdir().unwrap();
        let limit = Duration::from_millis(500);
        run(root.path(), limit).unwrap();
        let directory = root.path().join(DIRECTORY);
        std::fs::create_dir_all(&directory).unwrap();
        for directory in directory.ancestors().take(2) {
            let mode = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(directory, mode).unwrap();
        }
        let write = |name: &str, text: &str, mode: u32| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write("10-good", "#!/bin/sh\nexit 0\n", 0o755);
        write("20-not-executable", "#!/bin/sh\nexit 1\n", 0o644);
        run(root.path(), limit).unwrap();
        write("30-bad", "#!/bin/sh\nexit 3\n", 0o755);
        let outcome = || match run(root.path(), limit) {
            Err(Error::HealthCheck { check, outcome }) => {
                assert_eq!(check, directory.join("30-bad"));
                outcome
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(outcome(), "failed (exit status: 3)");
        write("30-bad", "#!/bin/sh\nexec sleep 60\n", 0o755);
        assert!(outcome().starts_with("did not end within"));
        // A user who can write to a check could run anything as root.
        write("10-good", "#!/bin/sh\nexit 0\n", 0o775);
        let refused = run(root.path(), limit).unwrap_err();
        assert!(refused.to_string().contains("others than its owner may write"), "{refused}");
        assert_eq!(refused.exit_status(), 3);
    }
}
