//! Reading a foreign file system: in a worker, in a mount namespace of its own (docs/design.md,
//! invariant 7).

use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::environment::facts::Facts;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::root_dir::RootDir;
use crate::storage::mount_place::MountPlace;
use crate::storage::mounts::{Mounted, Mounts};
use crate::storage::namespace::stay_in_private_namespace;
use crate::storage::probe::Kind;
use crate::storage::volume::{Access, FileSystem};
use crate::sys::{self, SubvolumeInfo};
use crate::workers::{Answer, Question};

/// A file system to read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRequest {
    /// The directory to mount it on.
    pub dir: PathBuf,
    /// The file system.
    pub file_system: FileSystem,
    /// On btrfs, the one subvolume to read. `None` is the top level if there are nested file
    /// systems, and else all of them.
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

/// What was read on a file system.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct ScanResult {
    /// The roots on it.
    pub(super) roots: Vec<Facts>,
    /// How many more there are.
    pub(super) not_read: usize,
}

impl ScanResult {
    fn of(root: Option<Facts>) -> Self {
        ScanResult { roots: root.into_iter().collect(), not_read: 0 }
    }

    /// Whether everything was read that there is. What could not be mounted may be free later.
    pub(super) fn is_whole(&self) -> bool {
        self.not_read == 0 && self.roots.iter().all(|root| root.not_mounted.is_empty())
    }
}

impl Question for ScanRequest {
    const KIND: &'static str = "look";
    type Finding = ScanResult;

    fn answer(&self) -> Answer<ScanResult> {
        stay_in_private_namespace()
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
pub(super) fn mount_directory(host: &Host) -> PathBuf {
    // Without root there is none, and nothing can be mounted either.
    host.work_directory("scan").unwrap_or_else(|_| host.run.join("lifeboat/scan"))
}

fn scan(request: &ScanRequest) -> Result<ScanResult> {
    let ScanRequest { file_system, nested, .. } = request;
    let table = Mounts::read(&Host::local())?;
    let mounted = file_system.show(&table, Access::Look, &request.dir)?;
    let found = if let Some(subvolume) = &request.subvolume {
        let root = RootDir::open(&mounted.dir().join(subvolume))?;
        ScanResult::of(facts(&root, Some(subvolume.clone()), nested))
    } else if file_system.kind == Kind::Btrfs && nested.is_empty() {
        subvolumes(mounted.dir(), file_system, &table)
    } else {
        ScanResult::of(facts(&RootDir::open(mounted.dir())?, None, nested))
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
        match MountPlace::of(directory).and_then(|place| show(file_system, place.path())) {
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

/// The most roots that are read on one file system. There may be thousands of snapshots.
const MAX_ROOTS: usize = 64;

/// A subvolume that looks like a root.
struct Subvolume {
    /// Its path from the top level.
    path: PathBuf,
    info: Option<SubvolumeInfo>,
}

/// The roots among the top level of a btrfs and its subvolumes: first the default subvolume, those
/// that are mounted, and those that can be written to.
fn subvolumes(top: &Path, file_system: &FileSystem, mounts: &Mounts) -> ScanResult {
    let mut all = all_roots(top);
    if all.len() > 1 {
        let default = file_system.default_subvolume().ok();
        let mounted = file_system.mounted_subvolumes(mounts);
        all.sort_by_key(|Subvolume { info, .. }| {
            let id = info.map(|info| info.id());
            let is_mounted = id.is_some_and(|id| mounted.contains(&id));
            let is_read_only = info.is_some_and(|info| info.is_read_only());
            (id.is_none() || id != default, !is_mounted, is_read_only)
        });
    }
    let read = |Subvolume { path, info }: &Subvolume| {
        let name = (!path.as_os_str().is_empty()).then(|| path.to_string_lossy().into_owned());
        let facts = Facts::read(&RootDir::open(&top.join(path)).ok()?, name)?;
        Some(Facts { read_only: info.is_some_and(|info| info.is_read_only()), ..facts })
    };
    ScanResult {
        roots: all.iter().take(MAX_ROOTS).filter_map(read).collect(),
        not_read: all.len().saturating_sub(MAX_ROOTS),
    }
}

/// The subvolumes that look like roots, as they are met from the top.
fn all_roots(top: &Path) -> Vec<Subvolume> {
    // Limits, because a hostile tree must not go on for ever.
    const MAX_DIRECTORIES: usize = 4000;
    const MAX_DEPTH: usize = 4;
    let mut found = Vec::new();
    let mut queue = std::collections::VecDeque::from([(PathBuf::new(), true, 0)]);
    let mut seen = 0;
    while let Some((path, is_subvolume, depth)) = queue.pop_front() {
        seen += 1;
        if seen > MAX_DIRECTORIES {
            break;
        }
        let here = top.join(&path);
        let is_root = is_subvolume && RootDir::open(&here).is_ok_and(|root| Facts::is_root(&root));
        if is_root {
            let directory = std::fs::File::open(&here).ok().map(OwnedFd::from);
            let info = directory.and_then(|directory| sys::subvolume(&directory).ok());
            found.push(Subvolume { path: path.clone(), info });
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
