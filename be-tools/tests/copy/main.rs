//! The copy engine on real file systems on loop devices. The results are checked with rsync, find,
//! getfattr, lsattr and xfs_io.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod create;
mod field;
mod killed;
#[path = "../loop_device/mod.rs"]
mod loop_device;
mod properties;
mod refresh;

use std::path::Path;
use std::process::Command;

use be_tools::copy::{CopyRequest, Mode, Trust};
use be_tools::plan::{Plan, Progress, Report};
use be_tools::tree::exclude::Exclude;

use loop_device::{Mounted, sh};

fn request<'a>(source: &'a Path, target: &'a Path) -> CopyRequest<'a> {
    CopyRequest {
        source,
        target,
        from: Path::new(""),
        to: Path::new(""),
        mountpoint: Path::new("/"),
        exclude: Exclude::standard(),
        mode: Mode::Fresh,
        two_pass: false,
        totals: None,
    }
}

/// A refresh that does not trust the target.
fn refresh<'a>(source: &'a Path, target: &'a Path) -> CopyRequest<'a> {
    CopyRequest { mode: Mode::Refresh(Trust::default()), ..request(source, target) }
}

/// Asserts that rsync finds no difference. Leaves out a file of 5 GiB, whose checksum would take a
/// minute, and paths that are too long for rsync.
fn rsync_finds_no_difference(source: &Path, target: &Path) {
    let out = Command::new("rsync")
        .args([
            "-aHAXn",
            "--checksum",
            "--numeric-ids",
            "--delete",
            "-i",
            "--exclude=/lost+found",
            "--exclude=/busy",
            "--exclude=/paths_of_10_kb",
            "--exclude=4500000000",
            // XFS lists ACLs under these names, too.
            "--filter=-x trusted.SGI_ACL_*",
        ])
        .arg(source.join(""))
        .arg(target.join(""))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && text.is_empty(),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Damages the file `bad` so that it cannot be read: its extent tree loses its magic number. The
/// file system must have no checksums, which would make the inode itself unreadable.
fn with_a_bad_file(mounted: Mounted) -> Mounted {
    mounted.remounted(|device| {
        let edit = format!("debugfs -w -R 'sif /bad block[0] 0xdead' {}", device.display());
        sh(Path::new("/"), &edit);
    })
}

/// Changes the source between the two passes of a copy.
struct BetweenPasses<'a> {
    source: &'a Path,
    script: &'a str,
}

impl Report for BetweenPasses<'_> {
    fn confirm(&mut self, _: &Plan) -> be_tools::Result<bool> {
        Ok(true)
    }
    fn step(&mut self, _: usize, _: &str) {}
    fn part(&mut self, _: &str) {
        sh(self.source, self.script);
    }
    fn progress(&mut self, _: &Progress) {}
    fn warn(&mut self, _: &str) {}
}
