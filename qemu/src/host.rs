//! The host: its programs, deadlines on it, and the directory for what this workspace builds.

use crate::{Error, Result, machines_at_once};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// The directory for builds and logs: `$CARGO_TARGET_DIR`, or the workspace's `target`.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"),
    }
}

/// A deadline of so many seconds for a machine that runs alone, multiplied by `LIFEBOAT_SLOW`; by
/// default by 2 if other machines may run at the same time.
pub fn deadline(seconds: u64) -> Duration {
    let usual = if machines_at_once() > 1 { 2.0 } else { 1.0 };
    let slow =
        std::env::var("LIFEBOAT_SLOW").ok().and_then(|v| v.parse::<f64>().ok()).unwrap_or(usual);
    Duration::from_secs(seconds).mul_f64(slow.clamp(0.1, 100.0))
}

/// The Debian package of a program that this crate runs.
fn package_of(program: &str) -> &'static str {
    match program {
        "qemu-system-x86_64" => "qemu-system-x86",
        "mmdebstrap" => "mmdebstrap",
        "mkfs.vfat" => "dosfstools",
        "mke2fs" | "e2fsck" => "e2fsprogs",
        "newuidmap" => "uidmap",
        "sgdisk" => "gdisk",
        "unshare" => "util-linux",
        _ => "coreutils",
    }
}

/// A program of the host, which is also searched for in the directories of root's PATH.
pub(crate) struct Tool {
    command: Command,
    program: String,
}

impl Tool {
    pub(crate) fn new(program: &str) -> Tool {
        let mut command = Command::new(program);
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{path}:/usr/sbin:/sbin"))
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        Tool { command, program: program.to_owned() }
    }

    /// Checks that a program is installed that another one runs.
    pub(crate) fn require(program: &str) -> Result<()> {
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
        match path.split(':').any(|directory| Path::new(directory).join(program).exists()) {
            true => Ok(()),
            false => Err(Error::MissingProgram {
                program: program.to_owned(),
                package: package_of(program),
            }),
        }
    }

    pub(crate) fn arg(mut self, arg: impl AsRef<OsStr>) -> Tool {
        self.command.arg(arg);
        self
    }

    pub(crate) fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Tool {
        self.command.args(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Tool {
        self.command.env(name, value);
        self
    }

    /// Runs the program and returns its standard output.
    pub(crate) fn run(mut self) -> Result<String> {
        let command = format!("{:?}", self.command);
        log::debug!("running {command}");
        let output = self.command.output().map_err(|e| self.start_error(e))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(Error::Tool {
                command,
                status: output.status.to_string(),
                words: last_lines(&words, 20),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts the program. It is killed when the calling thread ends.
    pub(crate) fn spawn(mut self, stdout: Stdio, stderr: Stdio) -> Result<std::process::Child> {
        log::debug!("starting {:?}", self.command);
        crate::sys::die_with_parent(&mut self.command);
        self.command.stdout(stdout).stderr(stderr);
        self.command.spawn().map_err(|e| self.start_error(e))
    }

    fn start_error(&self, source: std::io::Error) -> Error {
        if source.kind() == std::io::ErrorKind::NotFound {
            return Error::MissingProgram {
                program: self.program.clone(),
                package: package_of(&self.program),
            };
        }
        Error::Io { doing: format!("starting {}", self.program), source }
    }
}

/// The last `count` lines of a text.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_its_package() {
        let error = Tool::new("lifeboat-no-such-program").run().unwrap_err();
        assert!(error.to_string().contains("apt-get install"), "{error}");
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let error = Tool::new("ls").arg("/no/such/directory").run().unwrap_err();
        assert!(error.to_string().contains("/no/such/directory"), "{error}");
    }

    #[test]
    fn the_last_lines_are_the_last() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("a", 2), "a");
    }
}
