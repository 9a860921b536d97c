//! Loop devices that are gone with their handle.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Runs a program of the host that must succeed; returns what it printed.
pub fn run(words: &[&str]) -> Result<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C.UTF-8");
    let output = command.output().with_context(|| format!("starting {}", words[0]))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`{}` failed: {said}", words.join(" "));
    Ok(text)
}

/// A sparse image behind a loop device, past the page cache of the host.
pub struct Loop {
    pub node: PathBuf,
    _image: tempfile::TempPath,
}

impl Loop {
    /// One of so many MiB.
    pub fn new(folder: &Path, mebibytes: u64) -> Result<Self> {
        let image = tempfile::Builder::new().prefix("bench-").suffix(".loop").tempfile_in(folder)?;
        image.as_file().set_len(mebibytes << 20)?;
        let path = image.into_temp_path();
        let name = path.to_str().context("the path of the image is text")?;
        let node = run(&["losetup", "-f", "-P", "--direct-io=on", "--show", name])?;
        Ok(Loop { node: node.trim().into(), _image: path })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.node.to_str().unwrap_or_default()
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = run(&["partx", "-d", self.name()]);
        if let Err(error) = run(&["losetup", "-d", self.name()]) {
            eprintln!("{error:#}");
        }
    }
}

/// A mount that is gone with its handle.
pub struct Mounted(pub PathBuf);

impl Mounted {
    /// Mounts a device on a new folder below `folder`.
    pub fn new(node: &str, folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        run(&["mount", node, &folder.to_string_lossy()])?;
        Ok(Mounted(folder.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(&["umount", &self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

/// The kernel forgets what it has read.
pub fn drop_caches() -> Result<()> {
    run(&["sync"])?;
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the caches (needs root)")
}
