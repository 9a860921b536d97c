//! Placements: the arguments of `-m`.

use std::fmt;
use std::str::FromStr;

use super::mount_point::MountPoint;
use crate::error::{Error, Result};
use crate::storage::probe::Kind;

/// A type of file system that Lifeboat makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the kernel's name")]
pub enum FsType {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
}

impl FsType {
    /// All types.
    pub const ALL: [FsType; 6] =
        [FsType::Ext2, FsType::Ext3, FsType::Ext4, FsType::Xfs, FsType::Btrfs, FsType::Vfat];

    /// The kind that the probe returns for it.
    pub fn kind(self) -> Kind {
        match self {
            FsType::Ext2 => Kind::Ext2,
            FsType::Ext3 => Kind::Ext3,
            FsType::Ext4 => Kind::Ext4,
            FsType::Xfs => Kind::Xfs,
            FsType::Btrfs => Kind::Btrfs,
            FsType::Vfat => Kind::Vfat,
        }
    }

    /// Its name in fstab(5), mount(8) and mkfs(8).
    pub fn as_str(self) -> &'static str {
        match self {
            FsType::Ext2 => "ext2",
            FsType::Ext3 => "ext3",
            FsType::Ext4 => "ext4",
            FsType::Xfs => "xfs",
            FsType::Btrfs => "btrfs",
            FsType::Vfat => "vfat",
        }
    }

    /// Whether it is ext2, ext3 or ext4.
    pub fn is_ext(self) -> bool {
        matches!(self, FsType::Ext2 | FsType::Ext3 | FsType::Ext4)
    }
}

impl fmt::Display for FsType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for FsType {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        FsType::ALL.into_iter().find(|t| t.as_str() == text).ok_or_else(|| {
            let all = FsType::ALL.map(FsType::as_str).join(", ");
            Error::Usage(format!(
                "'{}' is not a file system type that be makes: use {all}",
                text.escape_default()
            ))
        })
    }
}

/// One argument of `-m`. `D` is its device, which is a text until it is resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement<D = String> {
    /// The argument, for messages.
    pub text: String,
    /// The parsed argument.
    pub kind: PlacementKind<D>,
}

/// The kinds of placements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlacementKind<D = String> {
    /// `MOUNTPOINT:DEVICE:FSTYPE[:OPTIONS]`
    FileSystem {
        /// The mount point.
        mountpoint: MountPoint,
        /// The device.
        device: D,
        /// The type to make.
        fs_type: FsType,
        /// Mount options for fstab.
        options: Option<String>,
    },
    /// `-:DEVICE:swap`
    Swap {
        /// The device.
        device: D,
    },
    /// `MOUNTPOINT:merged`
    Merged(MountPoint),
    /// `MOUNTPOINT:shared`
    Shared(MountPoint),
}

const GRAMMAR: &str =
    "use MOUNTPOINT:DEVICE:FSTYPE[:OPTIONS], -:DEVICE:swap, MOUNTPOINT:merged or MOUNTPOINT:shared";

impl<D> Placement<D> {
    /// Its device, if it has one.
    pub fn device(&self) -> Option<&D> {
        match &self.kind {
            PlacementKind::FileSystem { device, .. } | PlacementKind::Swap { device } => {
                Some(device)
            }
            PlacementKind::Merged(_) | PlacementKind::Shared(_) => None,
        }
    }

    /// Resolves the device that the user named (by-id, `UUID=`, `vg/lv`) with `find`. From
    /// then on it is the value that was found.
    ///
    /// # Errors
    /// Those of `find`.
    pub fn resolve<R>(self, find: impl FnOnce(&D) -> Result<R>) -> Result<Placement<R>> {
        let kind = match self.kind {
            PlacementKind::FileSystem { mountpoint, device, fs_type, options } => {
                let device = find(&device)?;
                PlacementKind::FileSystem { mountpoint, device, fs_type, options }
            }
            PlacementKind::Swap { device } => PlacementKind::Swap { device: find(&device)? },
            PlacementKind::Merged(mountpoint) => PlacementKind::Merged(mountpoint),
            PlacementKind::Shared(mountpoint) => PlacementKind::Shared(mountpoint),
        };
        Ok(Placement { text: self.text, kind })
    }

    /// A usage error that names this argument.
    pub(super) fn error(&self, why: impl fmt::Display) -> Error {
        Error::Usage(format!("-m {}: {why}", self.text))
    }
}

impl FromStr for Placement {
    type Err = Error;

    /// A device may contain colons (`/dev/disk/by-path/pci-0000:00:1f.2-ata-1`): it ends before the
    /// last word that is a type.
    fn from_str(text: &str) -> Result<Self> {
        let bad =
            |why: &str| Error::Usage(format!("-m {}: {why}; {GRAMMAR}", text.escape_default()));
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(bad("it must not contain white space"));
        }
        let (place, rest) = text.split_once(':').ok_or_else(|| bad("it has no ':'"))?;
        let is_swap = place == "-";
        let mountpoint = || {
            place
                .parse::<MountPoint>()
                .map_err(|_| bad("it does not begin with an absolute mount point"))
        };
        let kind = match rest {
            "merged" if !is_swap => PlacementKind::Merged(mountpoint()?),
            "shared" if !is_swap => PlacementKind::Shared(mountpoint()?),
            _ => {
                let words: Vec<&str> = rest.split(':').collect();
                let is_type = |word: &str| {
                    if is_swap { word == "swap" } else { word.parse::<FsType>().is_ok() }
                };
                let at = words.iter().rposition(|w| is_type(w)).filter(|at| *at > 0).ok_or_else(
                    || {
                        let all = FsType::ALL.map(FsType::as_str).join(", ");
                        bad(&format!(
                            "DEVICE and FSTYPE must follow the mount point; FSTYPE is one of \
                            {all}, or swap after '-'"
                        ))
                    },
                )?;
                let device = words[..at].join(":");
                let options = words[at + 1..].join(":");
                if device.is_empty() {
                    return Err(bad("the device is missing"));
                }
                match (is_swap, words[at].parse::<FsType>()) {
                    (false, Ok(fs_type)) => PlacementKind::FileSystem {
                        mountpoint: mountpoint()?,
                        device,
                        fs_type,
                        options: (!options.is_empty()).then_some(options),
                    },
                    _ if options.is_empty() => PlacementKind::Swap { device },
                    _ => return Err(bad("swap takes no options")),
                }
            }
        };
        Ok(Placement { text: text.to_owned(), kind })
    }
}

impl<D> fmt::Display for Placement<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file_system(
        mountpoint: &str,
        device: &str,
        fs_type: FsType,
        options: Option<&str>,
    ) -> PlacementKind {
        PlacementKind::FileSystem {
            mountpoint: mountpoint.parse().unwrap(),
            device: device.into(),
            fs_type,
            options: options.map(str::to_owned),
        }
    }

    #[test]
    fn arguments_parse() {
        let by_path = "/dev/disk/by-path/pci-0000:00:1f.2-ata-1-part2";
        let long = format!("/srv:{by_path}:xfs:noatime,nofail");
        let table = [
            ("/:/dev/vdb1:ext4", file_system("/", "/dev/vdb1", FsType::Ext4, None)),
            ("/var/:vg/var:xfs", file_system("/var", "vg/var", FsType::Xfs, None)),
            (
                "/boot:UUID=12-ab:ext2:ro",
                file_system("/boot", "UUID=12-ab", FsType::Ext2, Some("ro")),
            ),
            (&long, file_system("/srv", by_path, FsType::Xfs, Some("noatime,nofail"))),
            ("-:/dev/vdb2:swap", PlacementKind::Swap { device: "/dev/vdb2".into() }),
            ("/usr:merged", PlacementKind::Merged("/usr".parse().unwrap())),
            ("/home:shared", PlacementKind::Shared("/home".parse().unwrap())),
        ];
        for (text, kind) in table {
            assert_eq!(
                text.parse::<Placement>().unwrap(),
                Placement { text: text.into(), kind },
                "{text}"
            );
        }
    }

    #[test]
    fn what_does_not_parse_is_named_with_the_grammar() {
        for bad in [
            "",
            "/",
            "/usr",
            "usr:merged",
            "/usr:",
            "/usr:ext4",
            "/usr::ext4",
            "/:/dev/vdb1",
            "/:/dev/vdb1:zfs",
            "/:/dev/vdb1:swap",
            "-:/dev/vdb1:ext4",
            "-:swap",
            "-:merged",
            "-:/dev/vdb1:swap:pri=1",
            "/a/../b:merged",
            "/:/dev/vdb1:ext4:a b",
            "/usr:merged:x",
        ] {
            let error = bad.parse::<Placement>().unwrap_err();
            assert_eq!(error.exit_status(), 2, "{bad}");
            let message = error.to_string();
            assert!(
                message.contains(bad) && message.contains("MOUNTPOINT:DEVICE:FSTYPE"),
                "{message}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<Placement>();
        }
    }
}
