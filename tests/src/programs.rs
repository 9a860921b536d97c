//! Programs of the host.

use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The `PATH` for programs, with the directories of root's programs and of the peers that Debian
/// does not package.
pub fn path() -> String {
    let peers = qemu::target_dir().join("peers/bin");
    format!("{}:/usr/sbin:/sbin:{}", std::env::var("PATH").unwrap_or_default(), peers.display())
}

/// Runs a program and returns its output. It must succeed.
///
/// # Errors
/// It could not be started or failed.
pub fn run(words: &[&str]) -> Result<String> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("PATH", path()).env("LC_ALL", "C.UTF-8");
    let output = command.output().with_context(|| format!("starting {}", words[0]))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}` failed: {stderr}", words.join(" "));
    Ok(text)
}
