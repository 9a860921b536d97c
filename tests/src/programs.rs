//! Programs of the host.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, ensure};

/// Runs a program that must succeed.
///
/// # Errors
/// It could not be started or failed.
pub fn run(directory: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).current_dir(directory).output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {errors}");
    Ok(())
}
