//! What is copied: a Debian of more than 40,000 files, made from packages, on ext4.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use qemu::{Debian, Release};

use crate::loops::{Loop, Mounted, run};
use crate::report::Tree;

const DEVICE_MIB: u64 = 4096;
const ENTRIES: u64 = 40_000;
const BYTES: u64 = 1_500_000_000;

/// What makes a Debian the machine of someone who works on it.
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

/// A tarball in the place of the Debian, to try this program out.
pub const OTHER_TREE: &str = "LIFEBOAT_BENCH_TREE";

/// Only a boot environment with a descriptor can be copied as blocks.
const DESCRIPTOR: &str = r#"format = 1
id = "7be0c4a2-5d3e-4f0b-9d55-62f1a0f5c3de"
name = "benchmark"
description = ""
created = "2026-11-23T06:12:00Z"
state = "complete"
shared = []
lost = []
"#;

/// The source, the target, and the directory in which both lie.
pub struct Disks {
    pub source: Loop,
    pub target: Loop,
    pub tree: Tree,
    directory: tempfile::TempDir,
}

impl Disks {
    /// Both, the source filled and clean, the target empty.
    pub fn new() -> Result<Self> {
        let directory = tempfile::tempdir_in(qemu::target_dir())?;
        let source = Loop::solid(directory.path(), DEVICE_MIB)?;
        let target = Loop::solid(directory.path(), DEVICE_MIB)?;
        let tree = fill(&source, directory.path())?;
        Ok(Disks { source, target, tree, directory })
    }

    /// Where archives lie.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Mounts the source. It is never written to, so that its super block stays as e2fsck has left
    /// it and tune2fs accepts a copy of it.
    pub fn mount_source(&self) -> Result<Mounted> {
        Mounted::with(self.source.name(), &self.directory().join("source"), "ro,noatime")
    }

    /// Mounts it in one more place: what was read of it stays in memory until that is gone, too.
    pub fn keep_source(&self) -> Result<Mounted> {
        Mounted::with(self.source.name(), &self.directory().join("kept"), "ro,noatime")
    }

    /// Makes a file system on the target, and does not mount it.
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
    eprintln!("making the source");
    let tarball = tarball()?;
    let tarball = tarball.to_str().context("the path of the tarball is text")?;
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
    // GRUB takes a loop device for the file behind it: update-grub fails in a copy on one. Without
    // this file a system has no GRUB to `be`, which then leaves update-grub out.
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
        ensure!(tree.entries > ENTRIES && tree.bytes > BYTES, "{tree:?} is less than it should be");
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
            .with_context(|| format!("dumpe2fs says no {name}"))
    };
    Ok((field("Block count:")? - field("Free blocks:")?) * field("Block size:")?)
}
