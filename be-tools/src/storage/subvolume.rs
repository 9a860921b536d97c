//! Which subvolume of a btrfs: the options `subvol=` and `subvolid=` of btrfs(5), read and written
//! here only.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// A subvolume other than the top level, as mount(8) is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subvolume {
    /// By its path from the top level, without a slash at either end.
    Path(String),
    /// By its number.
    Id(u64),
}

/// The number of the top level.
const TOP: u64 = 5;

/// What options say; both words where both are there, as in mountinfo.
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
    /// By its path; `None` for the top level.
    pub fn at(path: &str) -> Option<Self> {
        let path = path.trim_matches('/');
        (!path.is_empty()).then(|| Subvolume::Path(path.into()))
    }

    /// What the options of a line of fstab(5) name; `None` is the top level, which is what no word
    /// of it means here, whatever the default subvolume is. Where both words are there, the path is
    /// taken: mount(8) refuses a pair that does not agree.
    ///
    /// # Errors
    /// A number that is none.
    pub fn of_options(options: &str) -> Result<Option<Self>> {
        let found = SubvolumeOptions::parse(options);
        match (found.path, found.id) {
            (Some(path), _) => Ok(Self::at(path)),
            (None, None) => Ok(None),
            (None, Some(id)) => match parse_id(id) {
                Some(0 | TOP) => Ok(None),
                Some(id) => Ok(Some(Subvolume::Id(id))),
                None => Err(Error::Failed(format!(
                    "subvolid={} names no subvolume: correct the fstab",
                    id.escape_debug()
                ))),
            },
        }
    }

    /// An option says which subvolume.
    pub fn is_option(option: &str) -> bool {
        SubvolumeOptions::parse(option) != SubvolumeOptions::default()
    }

    /// The option for mount(2).
    ///
    /// # Errors
    /// A path with a comma, which would begin another option.
    pub(super) fn option(subvolume: Option<&Self>) -> Result<String> {
        match subvolume {
            None => Ok(format!("subvolid={TOP}")),
            Some(Subvolume::Id(id)) => Ok(format!("subvolid={id}")),
            Some(Subvolume::Path(path)) if path.contains(',') => Err(Error::Failed(format!(
                "subvolume '{path}' has a comma in its path, which mount(2) cannot take"
            ))),
            Some(Subvolume::Path(path)) => Ok(format!("subvol={path}")),
        }
    }
}

/// As the kernel reads one: decimal, `0x` and octal.
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
        for bad in ["subvolid=", "subvolid=@", "subvolid=08", "subvolid=-1"] {
            assert!(Subvolume::of_options(bad).unwrap_err().to_string().contains("fstab"), "{bad}");
        }
    }

    #[test]
    fn a_comma_in_a_path_begins_no_option() {
        let option = |text: &str| Subvolume::option(Subvolume::at(text).as_ref());
        assert_eq!(option("/@/").unwrap(), "subvol=@");
        assert_eq!(option("/").unwrap(), "subvolid=5");
        assert!(option("a,device=/dev/sda").is_err());
        assert_eq!(Subvolume::option(Some(&Subvolume::Id(7))).unwrap(), "subvolid=7");
    }
}
