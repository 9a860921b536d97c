//! Runs external programs and reports their failures in one uniform way.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Why an external program failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The program is not installed.
    #[error("{program}: not found; install the package that provides it")]
    Missing {
        /// Its name or path.
        program: String,
    },
    /// The program could not be started.
    #[error("{program}: cannot be started")]
    Start {
        /// Its name or path.
        program: String,
        /// The system's error.
        source: io::Error,
    },
    /// The program failed.
    #[error("{command}: {status}: {last_lines}")]
    Failed {
        /// The whole command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines of its output.
        last_lines: String,
    },
}

/// An invocation of an external program.
#[derive(Debug)]
pub struct Tool {
    program: OsString,
    arguments: Vec<OsString>,
    directory: Option<PathBuf>,
}

impl Tool {
    /// An invocation of `program`, a path or a name to find in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { program: program.as_ref().to_owned(), arguments: Vec::new(), directory: None }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I: IntoIterator<Item: AsRef<OsStr>>>(mut self, arguments: I) -> Self {
        for argument in arguments {
            self.arguments.push(argument.as_ref().to_owned());
        }
        self
    }

    /// Runs it in `directory`.
    #[must_use]
    pub fn directory(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Runs the program in the C locale, without input, and returns its standard output.
    ///
    /// # Errors
    /// When it is missing, cannot be started, or exits with a status other than 0.
    pub fn run(&self) -> Result<String, Error> {
        log::debug!("run: {}", self.command_line());
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env("LC_ALL", "C.UTF-8").stdin(Stdio::null());
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let program = || self.program.to_string_lossy().into_owned();
        let output = command.output().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { program: program() },
            _ => Error::Start { program: program(), source },
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
        Err(Error::Failed {
            command: self.command_line(),
            status: output.status.to_string(),
            last_lines: last_lines(&String::from_utf8_lossy(text), 6),
        })
    }

    fn command_line(&self) -> String {
        std::iter::once(&self.program)
            .chain(&self.arguments)
            .map(|word| word.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_output_is_returned() {
        assert_eq!(Tool::new("echo").arg("a").args(["b"]).run().unwrap(), "a b\n");
    }

    #[test]
    fn a_failure_names_the_command_and_its_last_lines() {
        let error = Tool::new("sh")
            .args(["-c", "echo out; echo why >&2; exit 3"])
            .run()
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("sh -c "), "{error}");
        assert!(error.ends_with("exit status: 3: why"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = Tool::new("no-such-program").run().unwrap_err();
        assert!(matches!(error, Error::Missing { program } if program == "no-such-program"));
    }
}
