//! The result of a build: what was built, and the size of each part.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Bytes of each part of an image.
#[derive(Debug, Default, Clone, Serialize)]
pub struct Sizes {
    /// The kernel.
    pub kernel: u64,
    /// Kernel modules, unpacked.
    pub modules: u64,
    /// File system tools and busybox.
    pub tools: u64,
    /// The libraries of those programs.
    pub libraries: u64,
    /// The multi-call binary.
    pub binary: u64,
    /// Files that the user added.
    pub additions: u64,
    /// All files of the initramfs.
    pub initramfs_unpacked: u64,
    /// The compressed initramfs.
    pub initramfs: u64,
    /// `lifeboat.efi`.
    pub efi: u64,
    /// `lifeboat.img`.
    pub img: u64,
}

/// The result of a build.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Debian release of the packages.
    pub release: String,
    /// Version of the kernel.
    pub kernel: String,
    /// Directory of the images.
    pub output: PathBuf,
    /// Bytes of each part.
    pub sizes: Sizes,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = &self.sizes;
        writeln!(
            out,
            "{}/lifeboat.efi, lifeboat.img: kernel {} of Debian {}",
            self.output.display(),
            self.kernel,
            self.release
        )?;
        for (name, size) in [
            ("kernel", sizes.kernel),
            ("modules", sizes.modules),
            ("tools", sizes.tools),
            ("libraries", sizes.libraries),
            ("binary", sizes.binary),
            ("additions", sizes.additions),
            ("initramfs, unpacked", sizes.initramfs_unpacked),
            ("initramfs", sizes.initramfs),
            ("lifeboat.efi", sizes.efi),
            ("lifeboat.img", sizes.img),
        ] {
            writeln!(out, "{name:>20} {:>9.2} MiB", size as f64 / 1_048_576.0)?;
        }
        Ok(())
    }
}
