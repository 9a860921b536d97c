//! Subvolumes of btrfs inside a tree. For a walk they are directories with a device number of their
//! own, which openat2(2) does not take for mount points.

use std::os::fd::OwnedFd;

use rustix::fs::Stat;
use rustix::io::Errno;

use crate::sys;

/// BTRFS_FIRST_FREE_OBJECTID: the inode number of the root of every subvolume, and of nothing else
/// on a btrfs.
const ROOT_INODE: u64 = 256;

/// The UUID of no subvolume.
const NONE: [u8; 16] = [0; 16];

/// What is known of a subvolume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subvolume {
    /// Nothing in it can be changed.
    is_read_only: bool,
    /// `btrfs receive` made it. Then it is a backup of something else.
    is_received: bool,
    uuid: [u8; 16],
    /// The one that it was made from as a snapshot; [`NONE`] if it is none.
    parent: [u8; 16],
}

impl Subvolume {
    /// The subvolume that a directory is the root of. Other directories, and most of those of other
    /// file systems, cost no system call.
    pub fn with_root(directory: &OwnedFd, stat: &Stat) -> Option<Self> {
        if stat.st_ino == ROOT_INODE { Self::holding(directory) } else { None }
    }

    /// The subvolume that a directory lies in.
    fn holding(directory: &OwnedFd) -> Option<Self> {
        sys::subvolume(directory).ok().map(|found| Subvolume {
            is_read_only: found.is_read_only(),
            is_received: found.is_received(),
            uuid: found.uuid(),
            parent: found.parent_uuid(),
        })
    }

    /// Whether it is an old state of the tree that begins at `root`, rather than part of it: a
    /// read-only snapshot of that, or what snapper or timeshift keep. A snapshot of something else
    /// is part of it, such as a layer of a container.
    pub fn is_old_state_of(&self, root: &OwnedFd, path: &[u8]) -> bool {
        self.is_snapshot()
            && (is_kept_by_a_tool(path)
                || Self::holding(root).is_some_and(|root| self.was_sealed_from(&root)))
    }

    fn is_snapshot(&self) -> bool {
        self.parent != NONE && !self.is_received
    }

    /// Whether it is a read-only snapshot of `root`, the snapshot that `root` was rolled back to, or
    /// another one of the same.
    fn was_sealed_from(&self, root: &Subvolume) -> bool {
        self.is_read_only
            && (self.parent == root.uuid || self.parent == root.parent || self.uuid == root.parent)
    }
}

/// `…/.snapshots/12/snapshot` is snapper's, `…/timeshift-btrfs/snapshots/DATE/NAME` timeshift's.
fn is_kept_by_a_tool(path: &[u8]) -> bool {
    let mut parts = path.rsplit(|b| *b == b'/');
    match [parts.next(), parts.next(), parts.next(), parts.next()] {
        [Some(b"snapshot"), Some(number), Some(b".snapshots"), _] => {
            !number.is_empty() && number.iter().all(u8::is_ascii_digit)
        }
        [Some(_), Some(_), Some(b"snapshots"), Some(b"timeshift-btrfs")] => true,
        _ => false,
    }
}

/// Makes a read-only subvolume writable, if the directory is the root of one.
///
/// # Errors
/// The flag cannot be cleared, because the whole file system is read-only.
pub fn make_writable(directory: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    match Subvolume::with_root(directory, stat) {
        Some(found) if found.is_read_only => sys::make_subvolume_writable(directory),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn subvolume(uuid: u8, parent: u8) -> Subvolume {
        let (uuid, parent) = ([uuid; 16], [parent; 16]);
        Subvolume { is_read_only: true, is_received: false, uuid, parent }
    }

    #[test]
    fn a_read_only_snapshot_of_the_tree_is_an_old_state_of_it() {
        let (new, rolled_back) = (subvolume(1, 0), subvolume(1, 7));
        for (what, found, root, expected) in [
            ("a snapshot of the root", subvolume(2, 1), new, true),
            ("a writable one", Subvolume { is_read_only: false, ..subvolume(2, 1) }, new, false),
            ("no snapshot", subvolume(2, 0), new, false),
            ("a layer of a container", subvolume(3, 2), new, false),
            ("what the root was rolled back to", subvolume(7, 6), rolled_back, true),
            ("another one of the same", subvolume(8, 7), rolled_back, true),
            ("a layer beside it", subvolume(8, 5), rolled_back, false),
        ] {
            assert_eq!(found.is_snapshot() && found.was_sealed_from(&root), expected, "{what}");
        }
        assert!(!Subvolume { is_received: true, ..subvolume(2, 1) }.is_snapshot());
    }

    #[test]
    fn what_snapper_and_timeshift_keep_is_known_by_its_path() {
        for (path, expected) in [
            ("/.snapshots/12/snapshot", true),
            ("/home/.snapshots/1/snapshot", true),
            ("/.snapshots/12a/snapshot", false),
            ("/.snapshots//snapshot", false),
            ("/snapshots/12/snapshot", false),
            ("/timeshift-btrfs/snapshots/2026-11-30_02-00-01/@", true),
            ("/timeshift-btrfs/@", false),
            ("/var/lib/machines", false),
            ("/", false),
        ] {
            assert_eq!(is_kept_by_a_tool(path.as_bytes()), expected, "{path}");
        }
    }
}
