//! The UUID of a super block. What a disk says of itself is not trusted to be one.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A UUID in the form of `blkid` and fstab(5): hexadecimal digits and hyphens. Anything else that
/// a super block has in its place is no UUID, and the value is empty. So it can enter a command
/// line, a GRUB script or a shell file as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct FsUuid(String);

impl FsUuid {
    /// The longest text: that of a UUID with its braces would be longer, and none has them.
    const MAX: usize = 40;

    /// The UUID that is written as `text`; empty if `text` is not one.
    pub fn parse(text: &str) -> Self {
        let is_uuid = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        Self::checked(text, is_uuid)
    }

    /// The id of an LVM physical volume, which has letters and digits (`lib/uuid/uuid.c`).
    pub(super) fn of_lvm(text: &str) -> Self {
        Self::checked(text, is_lvm_id)
    }

    /// The UUID; empty if there is none.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn checked(text: &str, is_valid: impl Fn(&str) -> bool) -> Self {
        let fits = text.len() <= Self::MAX && !text.starts_with('-') && is_valid(text);
        FsUuid(if fits { text.to_owned() } else { String::new() })
    }
}

fn is_lvm_id(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// From another process of `be`, which probed the device.
impl From<String> for FsUuid {
    fn from(text: String) -> Self {
        Self::checked(&text, is_lvm_id)
    }
}

impl From<&str> for FsUuid {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl Deref for FsUuid {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FsUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_hexadecimal_is_no_uuid() {
        for uuid in ["5d7a1ad5-8a3c-4a52-9a7e-0c6f6e1f3b55", "7A1B-22C3", "2026-11-30-02-00-00-00"]
        {
            assert_eq!(FsUuid::parse(uuid).as_str(), uuid);
            assert_eq!(FsUuid::from(uuid.to_owned()).as_str(), uuid);
        }
        let long = "a".repeat(41);
        for text in ["$(touch /PWNED; echo x)", "`id`", "a b", "a\nb", "a\"b", "../a", "-a", &long]
        {
            assert_eq!(FsUuid::parse(text).as_str(), "", "{text}");
            assert_eq!(FsUuid::of_lvm(text).as_str(), "", "{text}");
            assert_eq!(FsUuid::from(text.to_owned()).as_str(), "", "{text}");
        }
        let lvm = "Zk3xYb-Jp3u-9Q2w-ab1C-xYz0-11aa-Qq22Ww";
        assert_eq!((FsUuid::of_lvm(lvm).as_str(), FsUuid::parse(lvm).as_str()), (lvm, ""));
    }
}
