//! Reading a foreign file system: in a worker, in a mount namespace of its own (docs/design.md,
//! invariant 7).

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::environment::facts::Facts;
use crate::error::{Doing, Error, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::mounts::{Mounted, Mounts};
use crate::storage::namespace::enter_private_namespace;
use crate::storage::probe::Kind;
use crate::storage::volume::{Access, FileSystem};
use crate::workers::{Answer, Question};

/// A file system to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRequest {
    /// The directory to mount it on, which is made if it does not exist.
    pub dir: PathBuf,
    /// The file system.
    pub file_system: FileSystem,
    /// On btrfs, the one subvolume to read; `None` for all of them.
    pub subvolume: Option<String>,
    /// File systems to mount in it first: a separate /boot or /usr.
    pub nested: Vec<NestedFileSystem>,
}

/// A file system that is mounted in the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NestedFileSystem {
    /// The mount point, as a path in the root.
    pub mount_point: PathBuf,
    /// The file system.
    pub file_system: FileSystem,
}

impl Question for ScanRequest {
    const KIND: &'static str = "look";
    type Finding = Vec<Facts>;

    fn answer(&self) -> Answer<Vec<Facts>> {
        enter_namespace()
            .and_then(|()| scan(self))
            .map_err(|error| reason(error, &self.file_system))
    }
}

/// Why a file system was not read. The reason comes before the path, because a narrow screen shows
/// the beginning of a line.
fn reason(error: Error, file_system: &FileSystem) -> String {
    let Error::Io { doing, source } = error else { return error.to_string() };
    let look = match file_system.kind {
        _ if !matches!(source.raw_os_error(), Some(libc::EINVAL | libc::EUCLEAN)) => "",
        Kind::Ext2 | Kind::Ext3 | Kind::Ext4 => "e2fsck -n",
        Kind::Xfs => "xfs_repair -n",
        Kind::Btrfs => "btrfs check --readonly",
        _ => "",
    };
    if look.is_empty() {
        return format!("{source}, when {doing}");
    }
    // The kernel says what is wrong with a damaged file system in its log only.
    let node = file_system.volume.node().display();
    format!("{source}: `{look} {node}` says what is damaged ({doing})")
}

/// The directory that workers mount on. Each has its own namespace, so they can share one.
pub(super) fn mount_directory(run: &Path) -> PathBuf {
    run.join("lifeboat/scan")
}

/// Gives a worker's thread its private mount namespace, once.
fn enter_namespace() -> Result<()> {
    thread_local! {
        static ENTERED: Cell<bool> = const { Cell::new(false) };
    }
    if !ENTERED.get() {
        enter_private_namespace()?;
        ENTERED.set(true);
    }
    Ok(())
}

fn scan(request: &ScanRequest) -> Result<Vec<Facts>> {
    std::fs::create_dir_all(&request.dir).at("making the directory", &request.dir)?;
    let mounted = show(&request.file_system, &request.dir)?;
    let found = if let Some(subvolume) = &request.subvolume {
        let root = RootDir::open(&mounted.dir().join(subvolume))?;
        facts(&root, Some(subvolume.clone()), &request.nested).into_iter().collect()
    } else if request.file_system.kind == Kind::Btrfs {
        subvolumes(mounted.dir())
    } else {
        facts(&RootDir::open(mounted.dir())?, None, &request.nested).into_iter().collect()
    };
    // Waiting for the unmount here leaves the device free for the next program.
    mounted.unmount()?;
    Ok(found)
}

fn show(file_system: &FileSystem, dir: &Path) -> Result<Mounted> {
    file_system.show(&Mounts::read(&Host::local())?, Access::Look, dir)
}

/// The facts of a root with its nested file systems mounted. One that cannot be mounted is left out
/// and named in `not_mounted`.
fn facts(root: &RootDir, subvolume: Option<String>, nested: &[NestedFileSystem]) -> Option<Facts> {
    let mut mounted = Vec::new();
    let mut not_mounted = Vec::new();
    for NestedFileSystem { mount_point, file_system } in nested {
        let Ok(Some(directory)) = root.directory(mount_point) else {
            not_mounted.push(format!(
                "there is no directory {} to mount its file system on",
                mount_point.display()
            ));
            continue;
        };
        // Through the file descriptor, so that no symlink of the foreign root redirects the mount.
        let here = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        match here.canonicalize().at("finding", &here).and_then(|here| show(file_system, &here)) {
            Ok(mount) => mounted.push(mount),
            Err(Error::Io { source, .. }) => {
                not_mounted.push(format!(
                    "{} on {} cannot be mounted: {source}",
                    mount_point.display(),
                    file_system.volume.node().display()
                ));
            }
            Err(other) => not_mounted.push(other.to_string()),
        }
    }
    let found = Facts::read(root, subvolume).map(|facts| Facts { not_mounted, ..facts });
    while let Some(mount) = mounted.pop() {
        if let Err(error) = mount.unmount() {
            log::warn!("{error}");
        }
    }
    found
}

/// The roots among the top level of a btrfs and its subvolumes.
fn subvolumes(top: &Path) -> Vec<Facts> {
    // Limits, because there may be thousands of snapshots, and a hostile tree must not go on for
    // ever.
    const MAX_ROOTS: usize = 64;
    const MAX_DIRECTORIES: usize = 4000;
    const MAX_DEPTH: usize = 4;
    let mut found = Vec::new();
    let mut queue = std::collections::VecDeque::from([(PathBuf::new(), true, 0)]);
    let mut seen = 0;
    while let Some((path, is_subvolume, depth)) = queue.pop_front() {
        seen += 1;
        if seen > MAX_DIRECTORIES || found.len() == MAX_ROOTS {
            break;
        }
        let here = top.join(&path);
        let mut is_root = false;
        if is_subvolume && let Ok(root) = RootDir::open(&here) {
            let name = (!path.as_os_str().is_empty()).then(|| path.to_string_lossy().into_owned());
            let facts = Facts::read(&root, name);
            is_root = facts.is_some();
            found.extend(facts);
        }
        if depth == MAX_DEPTH {
            continue;
        }
        for entry in std::fs::read_dir(&here).into_iter().flatten().flatten() {
            // `metadata` does not follow symlinks. The root of a subvolume has inode number 256.
            let Ok(metadata) = entry.metadata() else { continue };
            let is_subvolume = metadata.ino() == 256;
            // In a root, only what snapshot tools keep there is read.
            let may_hold_root = !is_root
                || is_subvolume
                || entry.file_name().to_string_lossy().contains("snapshot");
            if metadata.is_dir() && may_hold_root && entry.file_name().to_str().is_some() {
                queue.push_back((path.join(entry.file_name()), is_subvolume, depth + 1));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::device::{BlockDevice, Devices};
    use crate::storage::probe::SuperBlock;
    use crate::storage::volume::Volume;

    #[test]
    fn the_reason_comes_before_the_path_and_names_the_program_that_looks_closer() {
        for (kind, errno, expected) in [
            (
                Kind::Ext4,
                libc::EINVAL,
                "Invalid argument (os error 22): `e2fsck -n /dev/vdy1` says what is damaged \
                 (mounting /dev/vdy1)",
            ),
            (
                Kind::Xfs,
                libc::EUCLEAN,
                "Structure needs cleaning (os error 117): `xfs_repair -n /dev/vdy1` says what is \
                 damaged (mounting /dev/vdy1)",
            ),
            (Kind::Ext4, libc::EIO, "Input/output error (os error 5), when mounting /dev/vdy1"),
        ] {
            let device = BlockDevice::example("vdy1", SuperBlock::new(kind));
            let devices: Devices = [device].into_iter().collect();
            let volume = Volume::of(&devices, devices.by_name("vdy1").unwrap());
            let file_system = FileSystem::found(volume).unwrap();
            let source = std::io::Error::from_raw_os_error(errno);
            let error = Error::Io { doing: "mounting /dev/vdy1".into(), source };
            assert_eq!(reason(error, &file_system), expected);
        }
    }
}
