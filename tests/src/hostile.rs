//! Disks written by an enemy: real file systems with a system on them, changed by a seed. The same
//! seed makes the same disk.

mod aims;
mod files;
mod super_blocks;

use std::path::Path;

use anyhow::{Context, Result};
use fastrand::Rng;

pub use aims::Aims;

use crate::programs::run;

/// An image file with a hostile disk.
#[derive(Debug)]
pub struct HostileDisk {
    /// The image.
    pub image: tempfile::TempPath,
    /// What was done to it, in the words of one who has to find the cause of a failure.
    pub tricks: Vec<String>,
}

/// The file systems that a disk can have, with their smallest sizes in MiB.
const KINDS: &[(&str, u64, &[&str])] = &[
    ("ext4", 48, &["mke2fs", "-q", "-F", "-t", "ext4"]),
    ("ext2", 48, &["mke2fs", "-q", "-F", "-t", "ext2"]),
    ("btrfs", 128, &["mkfs.btrfs", "-q", "-f"]),
    ("xfs", 320, &["mkfs.xfs", "-q", "-f"]),
];

impl HostileDisk {
    /// Makes the disk of a seed in a directory.
    ///
    /// # Errors
    /// A program failed. Needs root.
    pub fn make(seed: u64, aims: &Aims, directory: &Path) -> Result<Self> {
        let mut random = Rng::with_seed(seed);
        let (kind, mebibytes, mkfs) = KINDS[random.usize(..KINDS.len())];
        let file = tempfile::Builder::new().prefix("hostile-").tempfile_in(directory)?;
        file.as_file().set_len(mebibytes << 20)?;
        let image = file.into_temp_path();
        let name = image.to_str().context("the path of the image is UTF-8")?;
        run(&[mkfs, &[name]].concat())?;
        let mut tricks = vec![kind.to_owned()];

        let place = tempfile::tempdir_in(directory)?;
        let at = place.path().to_str().context("the path is UTF-8")?;
        run(&["mount", "-o", "loop", name, at])?;
        let changed = sh(place.path(), files::SYSTEM).map(|()| {
            for _ in 0..random.u8(1..4) {
                let trick = files::trick(&mut random, aims);
                // A trick may find nothing left to be played on.
                let _ = sh(place.path(), &trick.script);
                tricks.push(trick.name.to_owned());
            }
        });
        let unmounted = run(&["umount", at]);
        changed.and(unmounted)?;
        if random.u8(..3) == 0 {
            tricks.push(super_blocks::trick(&mut random, kind, aims, &image)?.to_owned());
        }
        Ok(HostileDisk { image, tricks })
    }
}

/// Runs a script in the mounted file system. A symlink that an earlier one made may lead out of it,
/// so everything else is read-only meanwhile; and a fifo may take the place of a file, so it has a
/// time limit.
fn sh(directory: &Path, script: &str) -> Result<()> {
    const ALONE: &str = r#"
        mount --make-rprivate /
        for place in / /dev /run /tmp /var /etc; do
            if mountpoint -q "$place"; then mount -o remount,bind,ro "$place"; fi
        done
        if touch /etc/lifeboat-is-not-here 2>/dev/null; then echo 'the host is writable' >&2; exit 1; fi
        cd "$1"
        exec timeout 20 sh -ec "$2"
    "#;
    let place = directory.to_str().context("the path is UTF-8")?;
    run(&["unshare", "--mount", "sh", "-ec", ALONE, "sh", place, script]).map(drop)
}
