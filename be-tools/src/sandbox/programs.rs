//! Runs programs of a BE: inside a mounted BE, or directly if it is the running one.

use std::ffi::{OsStr, OsString};

use super::Inside;
use crate::error::Result;
use crate::tool::Tool;

/// The programs of a BE.
pub trait Programs {
    /// Runs a program to its end and returns the bytes that it printed.
    ///
    /// # Errors
    /// When it cannot be started or does not exit with 0. The error has the last lines that it
    /// printed.
    fn capture(&self, command: &[&OsStr]) -> Result<Vec<u8>>;

    /// Runs a program to its end and returns the text that it printed.
    ///
    /// # Errors
    /// As [`Programs::capture`].
    fn run(&self, command: &[&str]) -> Result<String> {
        let command: Vec<&OsStr> = command.iter().map(OsStr::new).collect();
        self.capture(&command).map(|printed| String::from_utf8_lossy(&printed).into_owned())
    }
}

/// The programs of a mounted BE, isolated from the running system.
impl Programs for Inside<'_> {
    fn capture(&self, command: &[&OsStr]) -> Result<Vec<u8>> {
        let [program, arguments @ ..] = command else { return Ok(Vec::new()) };
        let words: Vec<OsString> = command.iter().map(|w| (*w).to_owned()).collect();
        let output = Inside::capture(self, &words)?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        Err(Tool::new(program).args(arguments).failure(&output).into())
    }
}

/// The programs of the running BE.
#[derive(Debug)]
pub struct Running;

impl Programs for Running {
    fn capture(&self, command: &[&OsStr]) -> Result<Vec<u8>> {
        let [program, arguments @ ..] = command else { return Ok(Vec::new()) };
        let tool = Tool::new(program).args(arguments);
        let output = tool.output()?;
        if output.status.success() { Ok(output.stdout) } else { Err(tool.failure(&output).into()) }
    }
}
