//! Mount points in a BE.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use crate::error::{Error, Result};

/// A mount point: an absolute path without `.`, `..`, doubled or trailing slashes. Parents are
/// sorted before their children.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountPoint(PathBuf);

impl MountPoint {
    /// `/`
    pub fn root() -> Self {
        MountPoint("/".into())
    }

    /// Whether it is `/`.
    pub fn is_root(&self) -> bool {
        self.0 == Path::new("/")
    }

    /// The absolute path.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// The path below a BE's root, without the leading slash; empty for `/`.
    pub fn relative(&self) -> &Path {
        self.below(&MountPoint::root()).unwrap_or(Path::new(""))
    }

    /// The path of `self` below `ancestor`: empty if they are the same, `None` if it is not below
    /// it.
    pub fn below<'a>(&'a self, ancestor: &MountPoint) -> Option<&'a Path> {
        self.0.strip_prefix(&ancestor.0).ok()
    }

    /// Whether it is below `ancestor`, and not the same.
    pub fn is_strictly_below(&self, ancestor: &MountPoint) -> bool {
        self != ancestor && self.0.starts_with(&ancestor.0)
    }

    /// The deepest of `candidates` that is this mount point or one of its parents.
    pub fn nearest<'a>(
        &self,
        candidates: impl IntoIterator<Item = &'a MountPoint>,
    ) -> Option<&'a MountPoint> {
        candidates.into_iter().filter(|c| self.0.starts_with(&c.0)).max()
    }
}

impl TryFrom<&Path> for MountPoint {
    type Error = Error;
    fn try_from(path: &Path) -> Result<Self> {
        let mut normal = PathBuf::new();
        for component in path.components() {
            match component {
                Component::RootDir => normal.push("/"),
                Component::Normal(name) if normal.has_root() => normal.push(name),
                Component::CurDir if normal.has_root() => {}
                _ => return Err(not_a_mount_point(path)),
            }
        }
        if normal.as_os_str().is_empty()
            || path.as_os_str().as_encoded_bytes().iter().any(u8::is_ascii_control)
        {
            return Err(not_a_mount_point(path));
        }
        Ok(MountPoint(normal))
    }
}

fn not_a_mount_point(path: &Path) -> Error {
    Error::Usage(format!(
        "{path:?} is not a mount point: use an absolute path without '..', such as /var"
    ))
}

impl FromStr for MountPoint {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Path::new(text).try_into()
    }
}

impl fmt::Display for MountPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_absolute_and_normal() {
        for (text, normal) in [
            ("/", "/"),
            ("//", "/"),
            ("/usr/", "/usr"),
            ("/var//log", "/var/log"),
            ("/./opt", "/opt"),
        ] {
            assert_eq!(text.parse::<MountPoint>().unwrap().as_path(), Path::new(normal), "{text}");
        }
        for bad in ["", "usr", "./usr", "/usr/..", "..", "none", "/a\nb", "-"] {
            assert!(bad.parse::<MountPoint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parents_sort_first_and_the_nearest_is_the_deepest() {
        let all: Vec<MountPoint> =
            ["/", "/var", "/var/log", "/var-x"].iter().map(|t| t.parse().unwrap()).collect();
        assert!(all.is_sorted_by(|a, b| !a.is_strictly_below(b)));
        let inside: MountPoint = "/var/lib/x".parse().unwrap();
        assert_eq!(inside.nearest(&all), Some(&all[1]));
        assert_eq!(inside.below(&all[1]), Some(Path::new("lib/x")));
        assert_eq!(inside.below(&all[3]), None);
    }
}
