//! The tree to copy: a Debian of more than 40,000 files, created from packages, on ext4.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use qemu::{Debian, Release};
use tests::programs::run;

use crate::loops::{Loop, Mounted};
use crate::report::Tree;

const DEVICE_MIB: u64 = 4096;
const MIN_ENTRIES: u64 = 40_000;
const MIN_BYTES: u64 = 1_500_000_000;

/// The packages of a developer's machine.
const PACKAGES: &[&str] = &[
    "build-essential",
    "clang",
    "git",
    "libboost-dev",
    "linux-headers-amd64",
    "locales-all",
    "man-db",
    "vim",
];

/// The variable that names a tarball to use instead of the Debian, to try this program out.
pub const OTHER_TREE: &str = "LIFEBOAT_BENCH_TREE";

/// The descriptor of the source. Without one, a boot environment cannot be copied by blocks.
const DESCRIPTOR: &str = r#"format = 1
id = "7be0c4a2-5d3e-4f0b-9d55-62f1a0f5c3de"
name = "benchmark"
description = ""
created = "2026-11-23T06:12:00Z"
state = "complete"
shared = []
lost = []
"#;

/// The source, the target, and the directory that contains both.
pub struct Disks {
    pub source: Loop,
    pub target: Loop,
    pub tree: Tree,
    directory: tempfile::TempDir,
}

impl Disks {
    /// Creates both: the source with the tree and a clean file system, and an empty target.
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir_in(qemu::target_dir())?;
        let source = Loop::preallocated(directory.path(), DEVICE_MIB)?;
        let target = Loop::preallocated(directory.path(), DEVICE_MIB)?;
        let tree = fill(&source, directory.path())?;
        Ok(Disks { source, target, tree, directory })
    }

    /// The directory for archives.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Mounts the source read-only, so that its super block stays as e2fsck left it and tune2fs
    /// accepts a copy of it.
    pub fn mount_source(&self) -> Result<Mounted> {
        Mounted::with(self.source.name(), &self.directory().join("source"), "ro,noatime")
    }

    /// Mounts the source on another directory as well, which keeps its files in memory while it is
    /// mounted.
    pub fn keep_source(&self) -> Result<Mounted> {
        Mounted::with(self.source.name(), &self.directory().join("kept"), "ro,noatime")
    }

    /// Creates a file system on the target without mounting it.
    pub fn fresh_target(&self, mkfs: &[&str]) -> Result<()> {
        run(&["wipefs", "-qa", self.target.name()])?;
        run(&[mkfs, &[self.target.name()]].concat()).map(drop)
    }

    /// Mounts the target.
    pub fn mount_target(&self) -> Result<Mounted> {
        Mounted::new(self.target.name(), &self.directory().join("target"))
    }
}

fn fill(source: &Loop, directory: &Path) -> Result<Tree> {
    eprintln!("creating the source");
    let tarball = tarball()?;
    let tarball = tarball.to_str().context("the path of the tarball is UTF-8")?;
    run(&["mke2fs", "-q", "-F", "-t", "ext4", source.name()])?;
    let root = Mounted::new(source.name(), &directory.join("source"))?;
    run(&[
        "tar",
        "-xpf",
        tarball,
        "--xattrs",
        "--xattrs-include=*",
        "-C",
        &root.0.to_string_lossy(),
    ])?;
    // GRUB resolves a loop device to its backing file, so update-grub fails in a copy on a loop
    // device. Without this file, `be` finds no GRUB in the system and does not run update-grub.
    match std::fs::remove_file(root.0.join("etc/grub.d/10_linux")) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(error).context("removing 10_linux");
        }
        _ => {}
    }
    std::fs::create_dir_all(root.0.join("etc/lifeboat"))?;
    std::fs::write(root.0.join("etc/lifeboat/environment.toml"), DESCRIPTOR)?;
    let entries = run(&["find", &root.0.to_string_lossy(), "-printf", "x"])?.len() as u64;
    drop(root);
    run(&["e2fsck", "-fy", source.name()])?;
    let tree = Tree { entries, bytes: used(source)? };
    if std::env::var_os(OTHER_TREE).is_none() {
        ensure!(tree.entries > MIN_ENTRIES && tree.bytes > MIN_BYTES, "{tree:?} is too small");
    }
    Ok(tree)
}

fn tarball() -> Result<PathBuf> {
    match std::env::var_os(OTHER_TREE) {
        Some(file) => Ok(file.into()),
        None => {
            let bare = Debian::new(Release::Bookworm).generic_kernel();
            Ok(PACKAGES.iter().fold(bare, |debian, package| debian.package(package)).tarball()?)
        }
    }
}

/// Bytes that the file system uses.
fn used(device: &Loop) -> Result<u64> {
    let text = run(&["dumpe2fs", "-h", device.name()])?;
    let field = |name: &str| -> Result<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|value| value.trim().parse().ok())
            .with_context(|| format!("dumpe2fs printed no {name}"))
    };
    Ok((field("Block count:")? - field("Free blocks:")?) * field("Block size:")?)
}
