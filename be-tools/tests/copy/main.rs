//! The copy engine on real file systems on loop devices. The judges are rsync, find, getfattr,
//! lsattr and xfs_io.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

mod create;
mod killed;
#[path = "../loop_device/mod.rs"]
mod loop_device;
mod properties;
mod refresh;

use std::path::Path;
use std::process::Command;

use be_tools::copy::{Mode, Request, Trust};
use be_tools::plan::{Plan, Progress, Report};
use be_tools::tree::exclude::Exclude;

use loop_device::{Mounted, sh};

fn request<'a>(source: &'a Path, target: &'a Path) -> Request<'a> {
    Request {
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

/// Of a target of which nothing is known.
fn refresh<'a>(source: &'a Path, target: &'a Path) -> Request<'a> {
    Request { mode: Mode::Refresh(Trust::default()), ..request(source, target) }
}

/// All but the file of 5 GiB, whose checksum would take a minute, and what is too deep for it.
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
            // XFS shows ACLs as these, too.
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

/// The same, with a file `bad` that cannot be read: an extent tree without its magic number. Its
/// file system has no checksum that would tell of that before.
fn with_a_bad_file(mounted: Mounted) -> Mounted {
    mounted.remounted(|device| {
        let edit = format!("debugfs -w -R 'sif /bad block[0] 0xdead' {}", device.display());
        sh(Path::new("/"), &edit);
    })
}

/// Changes the source between the two passes.
struct Meanwhile<'a>(&'a Path, &'a str);

impl Report for Meanwhile<'_> {
    fn confirm(&mut self, _: &Plan) -> be_tools::Result<bool> {
        Ok(true)
    }
    fn step(&mut self, _: usize, _: &str) {}
    fn part(&mut self, _: &str) {
        sh(self.0, self.1);
    }
    fn progress(&mut self, _: &Progress) {}
    fn warn(&mut self, _: &str) {}
}
