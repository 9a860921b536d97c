//! Loop devices and mounts that are removed when their handle is dropped.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tests::programs::run;

/// A loop device whose image is accessed with direct I/O, past the page cache of the host.
pub struct Loop {
    pub node: PathBuf,
    _image: tempfile::TempPath,
}

impl Loop {
    /// A device with a sparse image of this many MiB.
    pub fn new(directory: &Path, mebibytes: u64) -> Result<Self> {
        let image =
            tempfile::Builder::new().prefix("bench-").suffix(".loop").tempfile_in(directory)?;
        image.as_file().set_len(mebibytes << 20)?;
        Loop::on(image.into_temp_path())
    }

    /// A device whose image has all blocks allocated and keeps them, like a disk that has been in
    /// use: no tool is the first to write to a block.
    pub fn preallocated(directory: &Path, mebibytes: u64) -> Result<Self> {
        let image = tempfile::Builder::new()
            .prefix("bench-")
            .suffix(".loop")
            .tempfile_in(directory)?
            .into_temp_path();
        let (output, count) = (format!("of={}", image.display()), format!("count={mebibytes}"));
        run(&[
            "dd",
            "if=/dev/zero",
            &output,
            "bs=1M",
            &count,
            "oflag=direct",
            "conv=fsync",
            "status=none",
        ])?;
        let device = Loop::on(image)?;
        let limit = format!("/sys/block/{}/queue/discard_max_bytes", device.short());
        std::fs::write(&limit, "0").with_context(|| format!("writing {limit}"))?;
        Ok(device)
    }

    fn on(image: tempfile::TempPath) -> Result<Self> {
        let name = image.to_str().context("the path of the image is UTF-8")?;
        let node = run(&["losetup", "-f", "-P", "--direct-io=on", "--show", name])?;
        Ok(Loop { node: node.trim().into(), _image: image })
    }

    /// Its path.
    pub fn name(&self) -> &str {
        self.node.to_str().unwrap_or_default()
    }

    /// Its name without /dev.
    pub fn short(&self) -> &str {
        self.name().trim_start_matches("/dev/")
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

/// A mount that is removed when it is dropped.
pub struct Mounted(pub PathBuf);

impl Mounted {
    /// Mounts a device on a directory, which is created.
    pub fn new(node: &str, directory: &Path) -> Result<Self> {
        Mounted::with(node, directory, "defaults")
    }

    /// As [`Mounted::new`], with mount options.
    pub fn with(node: &str, directory: &Path, options: &str) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        run(&["mount", "-o", options, node, &directory.to_string_lossy()])?;
        Ok(Mounted(directory.to_owned()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // A command that a signal has ended may still be running.
        for _ in 0..20 {
            if run(&["umount", &self.0.to_string_lossy()]).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        if let Err(error) = run(&["umount", "-l", &self.0.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

/// Drops the kernel's caches, and the buffers of these devices.
pub fn drop_caches(devices: &[&Loop]) -> Result<()> {
    run(&["sync"])?;
    for device in devices {
        run(&["blockdev", "--flushbufs", device.name()])?;
    }
    std::fs::write("/proc/sys/vm/drop_caches", "3").context("dropping the caches (needs root)")
}
