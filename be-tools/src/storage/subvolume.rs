//! Subvolumes of a btrfs. Only this file reads and writes the options `subvol=` and `subvolid=` of
//! btrfs(5).

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A subvolume other than the top level, as an option of mount(8) names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subvolume {
    /// The one that is mounted if no option names one (btrfs-subvolume(8), "set-default").
    Default,
    /// Its path from the top level, without a slash at either end.
    Path(String),
    /// Its id.
    Id(u64),
}

/// The id of the top level.
const TOP: u64 = 5;

/// The values of both options, which mountinfo has together.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct SubvolumeOptions<'a> {
    pub(super) path: Option<&'a str>,
    pub(super) id: Option<&'a str>,
}

impl<'a> SubvolumeOptions<'a> {
    pub(super) fn parse(options: &'a str) -> Self {
        let mut found = SubvolumeOptions::default();
        for option in options.split(',') {
            match option.split_once('=') {
                Some(("subvol", path)) => found.path = Some(path),
                Some(("subvolid", id)) => found.id = Some(id),
                _ => {}
            }
        }
        found
    }
}

impl Subvolume {
    /// The subvolume with this path; `None` for the top level.
    pub fn at(path: &str) -> Option<Self> {
        let path = path.trim_matches('/');
        (!path.is_empty()).then(|| Subvolume::Path(path.into()))
    }

    /// The subvolume that a line of fstab(5) with these options mounts; `None` for the top level.
    ///
    /// # Errors
    /// The id is not a number.
    pub fn of_line(options: &str) -> Result<Option<Self>> {
        match Self::is_named_in(options) {
            true => Self::of_options(options),
            false => Ok(Some(Subvolume::Default)),
        }
    }

    /// The subvolume with this id; `None` for the top level.
    pub(super) fn with_id(id: u64) -> Option<Self> {
        (!matches!(id, 0 | TOP)).then_some(Subvolume::Id(id))
    }

    /// The subvolume that the options of a line of fstab(5) name; `None` for the top level, and if
    /// they name none. With both options the path is used: mount(8) refuses two that do not agree.
    ///
    /// # Errors
    /// The id is not a number.
    pub fn of_options(options: &str) -> Result<Option<Self>> {
        let found = SubvolumeOptions::parse(options);
        match (found.path, found.id) {
            (Some(path), _) => Ok(Self::at(path)),
            (None, None) => Ok(None),
            (None, Some(id)) => match parse_id(id) {
                Some(id) => Ok(Self::with_id(id)),
                None => Err(Error::Failed(format!(
                    "subvolid={} does not name a subvolume: correct the fstab",
                    id.escape_debug()
                ))),
            },
        }
    }

    /// Whether a file may be in both: one is in the other, or it is not known where one is. `None`
    /// is the top level, which holds all others.
    pub fn may_overlap(one: Option<&Self>, other: Option<&Self>) -> bool {
        let (Some(Subvolume::Path(one)), Some(Subvolume::Path(other))) = (one, other) else {
            return true;
        };
        // The kernel follows dots, and a comparison does not.
        let is_plain = |path: &str| path.split('/').all(|part| !["", ".", ".."].contains(&part));
        let (is_known, one, other) =
            (is_plain(one) && is_plain(other), Path::new(one), Path::new(other));
        !is_known || one.starts_with(other) || other.starts_with(one)
    }

    /// Whether one of these options names a subvolume.
    pub fn is_named_in(options: &str) -> bool {
        SubvolumeOptions::parse(options) != SubvolumeOptions::default()
    }

    /// The options that do not name a subvolume.
    pub fn other_options(options: &str) -> impl Iterator<Item = &str> {
        options.split(',').filter(|option| !Self::is_named_in(option))
    }

    /// The option for mount(2); none for the default subvolume.
    ///
    /// # Errors
    /// The path contains a comma, which would begin another option.
    pub(super) fn option(subvolume: Option<&Self>) -> Result<Option<String>> {
        let option = match subvolume {
            Some(Subvolume::Default) => return Ok(None),
            None => Ok(format!("subvolid={TOP}")),
            Some(Subvolume::Id(id)) => Ok(format!("subvolid={id}")),
            Some(Subvolume::Path(path)) if path.contains(',') => Err(Error::Failed(format!(
                "the path of subvolume '{path}' contains a comma, so mount(2) cannot mount it"
            ))),
            Some(Subvolume::Path(path)) => Ok(format!("subvol={path}")),
        };
        option.map(Some)
    }
}

/// Parses an id as the kernel does: decimal, hexadecimal with `0x`, octal with `0`.
pub(super) fn parse_id(text: &str) -> Option<u64> {
    if let Some(digits) = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        return u64::from_str_radix(digits, 16).ok();
    }
    match text.strip_prefix('0') {
        Some(digits) if !digits.is_empty() => u64::from_str_radix(digits, 8).ok(),
        _ => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_known_paths_are_apart() {
        let at = |path: &str| match path {
            "id" => Some(Subvolume::Id(256)),
            "default" => Some(Subvolume::Default),
            path => Subvolume::at(path),
        };
        for (one, other, may_overlap) in [
            ("@", "@var", false),
            ("@", "@/var", true),
            ("@second", "@", false),
            ("@", "@", true),
            ("", "@", true),
            ("id", "@", true),
            ("default", "@", true),
            ("./@", "@var", true),
            ("@/../@var", "@second", true),
            ("@second//x", "@", true),
            ("id", "id", true),
        ] {
            let (one, other) = (at(one), at(other));
            assert_eq!(Subvolume::may_overlap(one.as_ref(), other.as_ref()), may_overlap);
            assert_eq!(Subvolume::may_overlap(other.as_ref(), one.as_ref()), may_overlap);
        }
    }

    #[test]
    fn options_of_fstab_name_a_subvolume() {
        let path = |text: &str| Some(Subvolume::Path(text.into()));
        for (options, subvolume) in [
            ("defaults", None),
            ("subvol=/", None),
            ("rw,subvol=@", path("@")),
            ("subvol=/@home/,noatime", path("@home")),
            ("subvol=a/b", path("a/b")),
            ("subvolid=5", None),
            ("subvolid=0", None),
            ("subvolid=256", Some(Subvolume::Id(256))),
            ("subvolid=0x100", Some(Subvolume::Id(256))),
            ("subvolid=0400", Some(Subvolume::Id(256))),
            ("subvolid=256,subvol=/@", path("@")),
            ("x-subvol=@", None),
        ] {
            assert_eq!(Subvolume::of_options(options).unwrap(), subvolume, "{options}");
        }
        // Unlike an option that names the top level, no option means the default subvolume.
        for (options, subvolume) in [
            ("defaults", Some(Subvolume::Default)),
            ("subvol=/", None),
            ("subvolid=5", None),
            ("subvol=@", path("@")),
        ] {
            assert_eq!(Subvolume::of_line(options).unwrap(), subvolume, "{options}");
        }
        for bad in ["subvolid=", "subvolid=@", "subvolid=08", "subvolid=-1"] {
            assert!(Subvolume::of_options(bad).unwrap_err().to_string().contains("fstab"), "{bad}");
        }
    }

    #[test]
    fn a_comma_in_a_path_does_not_begin_an_option() {
        let option = |text: &str| Subvolume::option(Subvolume::at(text).as_ref());
        assert_eq!(option("/@/").unwrap().as_deref(), Some("subvol=@"));
        assert_eq!(option("/").unwrap().as_deref(), Some("subvolid=5"));
        assert!(option("a,device=/dev/sda").is_err());
        let by_id = Subvolume::option(Some(&Subvolume::Id(7))).unwrap();
        assert_eq!(by_id.as_deref(), Some("subvolid=7"));
        assert_eq!(Subvolume::option(Some(&Subvolume::Default)).unwrap(), None);
    }
}
