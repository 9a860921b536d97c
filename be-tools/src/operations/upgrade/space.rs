//! Whether a change of packages has room in a BE.

use std::path::Path;

use crate::error::{Doing, Refusal, Result};
use crate::plan::PackageChanges;
use crate::root_dir::RootDir;

/// Where a change of packages needs room: for what it downloads, and for what it installs.
const PLACES: [&str; 2] = ["/var/cache", "/usr"];

/// The free space of a file system.
struct Space {
    place: &'static str,
    id: u64,
    free: u64,
}

impl Space {
    fn of(root: &RootDir, place: &'static str) -> Result<Option<Self>> {
        let Some(directory) = root.directory(Path::new(place))? else { return Ok(None) };
        let found =
            rustix::fs::fstatvfs(&directory).at("reading the free space of", place.as_ref())?;
        let id = rustix::fs::fstat(&directory).at("reading", place.as_ref())?.st_dev;
        Ok(Some(Space { place, id, free: found.f_bavail.saturating_mul(found.f_frsize) }))
    }
}

/// Refuses a change that needs more than there is.
///
/// # Errors
/// [`Refusal::NoRoom`], and when the free space cannot be read.
pub(super) fn refuse_full(name: &str, root: &RootDir, changes: &PackageChanges) -> Result<()> {
    let growth = u64::try_from(changes.growth).unwrap_or(0);
    let [downloads, programs] = PLACES.map(|place| Space::of(root, place));
    let (Some(downloads), Some(programs)) = (downloads?, programs?) else { return Ok(()) };
    let needs = if downloads.id == programs.id {
        vec![(programs, changes.download.saturating_add(growth))]
    } else {
        vec![(downloads, changes.download), (programs, growth)]
    };
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

    #[test]
    fn what_does_not_fit_is_refused_with_its_size() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        let refuse = |download, growth| {
            let changes = PackageChanges { download, growth, ..PackageChanges::default() };
            refuse_full("second", &root, &changes)
        };
        refuse(1 << 60, 0).unwrap();
        for place in ["usr", "var/cache"] {
            std::fs::create_dir_all(directory.path().join(place)).unwrap();
        }
        refuse(1, -5).unwrap();
        let error = refuse(1 << 60, 1 << 30).unwrap_err();
        assert!(matches!(error, Error::Refused(Refusal::NoRoom { .. })), "{error}");
    }
}
