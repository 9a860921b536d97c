//! Whether a change of packages has room in a BE.

use std::path::Path;

use crate::distribution::package_manager::PackagePlan;
use crate::error::{Doing, Refusal, Result};
use crate::plan::ChangeKind;
use crate::root_dir::RootDir;

/// What a new kernel needs in /boot, with its initramfs, in bytes.
const KERNEL: u64 = 150 << 20;

/// The free space of a file system.
struct Space {
    place: &'static str,
    /// The file system, which several subvolumes share.
    id: u64,
    free: u64,
}

impl Space {
    fn of(root: &RootDir, place: &'static str) -> Result<Option<Self>> {
        let Some(directory) = root.directory(Path::new(place))? else { return Ok(None) };
        let found =
            rustix::fs::fstatvfs(&directory).at("reading the free space of", place.as_ref())?;
        Ok(Some(Space {
            place,
            id: found.f_fsid,
            free: found.f_bavail.saturating_mul(found.f_frsize),
        }))
    }
}

/// Refuses a change that needs more than there is: for what is downloaded or taken over, for what is
/// installed, and for a kernel.
///
/// # Errors
/// [`Refusal::NoRoom`], and when the free space cannot be read.
pub(super) fn refuse_full(name: &str, root: &RootDir, packages: &PackagePlan) -> Result<()> {
    let changes = &packages.changes;
    let taken_over = packages.reused.iter().fold(0, |sum: u64, file| sum.saturating_add(file.size));
    let is_kernel = |name: &str| name.starts_with("linux-image-");
    let kernels = changes.of(ChangeKind::New).filter(|change| is_kernel(&change.name)).count();
    let mut needs: Vec<(Space, u64)> = Vec::new();
    for (place, bytes) in [
        ("/var/cache", changes.download.saturating_add(taken_over)),
        ("/usr", changes.growth.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0)),
        ("/boot", KERNEL.saturating_mul(kernels as u64)),
    ] {
        let Some(space) = Space::of(root, place)? else { continue };
        match needs.iter_mut().find(|(there, _)| there.id == space.id) {
            Some((_, sum)) => *sum = sum.saturating_add(bytes),
            None => needs.push((space, bytes)),
        }
    }
    for (space, needed) in needs {
        if needed > space.free {
            return Err(Refusal::NoRoom {
                name: name.into(),
                directory: space.place,
                needed: indicatif::HumanBytes(needed).to_string(),
                free: indicatif::HumanBytes(space.free).to_string(),
            }
            .into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::plan::{PackageChange, PackageChanges};

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let refuse = |download, growth, package: &str| {
            let new = PackageChange { name: package.into(), from: None, to: Some("1".into()) };
            let changes = PackageChanges {
                changes: vec![new],
                download,
                growth: Some(growth),
                ..PackageChanges::default()
            };
            refuse_full("second", &root, &PackagePlan { changes, ..PackagePlan::default() })
        };
        refuse(1 << 60, 0, "x").unwrap();
        for place in ["usr", "var/cache", "boot"] {
            std::fs::create_dir_all(directory.path().join(place)).unwrap();
        }
        refuse(1, -5, "x").unwrap();
        for (download, growth) in [(1 << 60, 1 << 30), (0, 1 << 60)] {
            let error = refuse(download, growth, "x").unwrap_err();
            assert!(matches!(error, Error::Refused(Refusal::NoRoom { .. })), "{error}");
        }
    }
}
