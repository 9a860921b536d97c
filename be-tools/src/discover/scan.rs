//! Looking into a foreign file system: in a worker, in a mount namespace of its own (DESIGN.md,
//! invariant 7).

use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::environment::facts::Facts;
use crate::error::{Doing, Error, Result};
use crate::root_dir::RootDir;
use crate::storage::mounts::{Mounted, bind_read_only, mount_for_scan};
use crate::storage::namespace::enter_private_namespace;
use crate::workers::{Answer, Question};

/// A file system to look into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Where to mount it: a directory that may be made.
    pub dir: PathBuf,
    /// The file system.
    pub place: Place,
    /// On btrfs, the one subvolume to look at; all of them otherwise.
    pub subvolume: Option<String>,
    /// What to mount below it first: a /boot or /usr of its own.
    pub nested: Vec<(PathBuf, Place)>,
}

/// Where a file system is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Device node.
    pub device: PathBuf,
    /// Its number, to tell that a mount really shows it.
    pub number: (u32, u32),
    /// Type as the probe found it.
    pub fs_type: String,
    /// On btrfs, the subvolume to mount; the top level otherwise.
    pub subvolume: Option<String>,
    /// Where it is mounted already. A file system mounted for writing cannot be mounted again
    /// read-only.
    pub mounted_at: Option<PathBuf>,
}

impl Question for Request {
    const KIND: &'static str = "look";
    type Found = Vec<Facts>;

    fn answer(&self) -> Answer<Vec<Facts>> {
        enter_namespace().and_then(|()| look(self)).map_err(|error| error.to_string())
    }
}

/// Where a worker mounts; each has its own namespace, so one directory serves all.
pub(super) fn directory(run: &Path) -> PathBuf {
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

fn look(request: &Request) -> Result<Vec<Facts>> {
    std::fs::create_dir_all(&request.dir).at("making", &request.dir)?;
    let mounted = show(&request.place, &request.dir)?;
    let found = if let Some(subvolume) = &request.subvolume {
        let root = RootDir::open(&mounted.dir().join(subvolume))?;
        facts(&root, Some(subvolume.clone()), &request.nested).into_iter().collect()
    } else if request.place.fs_type == "btrfs" {
        subvolumes(mounted.dir())
    } else {
        facts(&RootDir::open(mounted.dir())?, None, &request.nested).into_iter().collect()
    };
    // Waiting for it here keeps the device free for whoever comes next.
    mounted.unmount()?;
    Ok(found)
}

fn show(place: &Place, dir: &Path) -> Result<Mounted> {
    let Some(existing) = &place.mounted_at else {
        return mount_for_scan(&place.device, &place.fs_type, place.subvolume.as_deref(), dir);
    };
    let mounted = bind_read_only(existing, dir)?;
    let seen = std::fs::metadata(dir).at("looking at", dir)?.dev();
    if place.fs_type != "btrfs"
        && (rustix::fs::major(seen), rustix::fs::minor(seen)) != place.number
    {
        return Err(Error::Failed(format!(
            "{} is mounted on {}, where something else hides it",
            place.device.display(),
            existing.display()
        )));
    }
    Ok(mounted)
}

/// The facts of a root with its nested file systems. One that cannot be mounted is left out and
/// named.
fn facts(root: &RootDir, subvolume: Option<String>, nested: &[(PathBuf, Place)]) -> Option<Facts> {
    let mut mounted = Vec::new();
    let mut not_mounted = Vec::new();
    for (mount_point, place) in nested {
        let Ok(Some(directory)) = root.directory(mount_point) else {
            not_mounted.push(format!(
                "there is no directory {} to mount its file system on",
                mount_point.display()
            ));
            continue;
        };
        // Through the descriptor: no link of the foreign root leads the mount elsewhere.
        let here = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
        match here.canonicalize().at("finding", &here).and_then(|here| show(place, &here)) {
            Ok(mount) => mounted.push(mount),
            Err(Error::Io { source, .. }) => {
                not_mounted.push(format!(
                    "{} on {} cannot be mounted: {source}",
                    mount_point.display(),
                    place.device.display()
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
    // Snapshots by the thousand are listed elsewhere; a hostile tree must end.
    const MOST_ROOTS: usize = 64;
    const MOST_DIRECTORIES: usize = 4000;
    const DEPTH: usize = 4;
    let mut found = Vec::new();
    let mut queue = std::collections::VecDeque::from([(PathBuf::new(), true, 0)]);
    let mut seen = 0;
    while let Some((path, is_subvolume, depth)) = queue.pop_front() {
        seen += 1;
        if seen > MOST_DIRECTORIES || found.len() == MOST_ROOTS {
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
        if depth == DEPTH {
            continue;
        }
        for entry in std::fs::read_dir(&here).into_iter().flatten().flatten() {
            // Not following links; the root of a subvolume has inode number 256.
            let Ok(metadata) = entry.metadata() else { continue };
            let is_subvolume = metadata.ino() == 256;
            // In a root, only what snapshot tools keep there is worth a look.
            let worth = !is_root
                || is_subvolume
                || entry.file_name().to_string_lossy().contains("snapshot");
            if metadata.is_dir() && worth && entry.file_name().to_str().is_some() {
                queue.push_back((path.join(entry.file_name()), is_subvolume, depth + 1));
            }
        }
    }
    found
}
