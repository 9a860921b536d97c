//! The mark by which it can be told from the other side what was made for a BE: the UUID of each
//! file system and swap space is derived from the id of the BE and from what it was made for. A
//! descriptor can claim a device only by what it is for, never by a UUID.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::name::Id;

/// What was made for a BE: `made` in its descriptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Purpose {
    /// The file system of a mount point: `/var`.
    FileSystem(PathBuf),
    /// A swap space, counted from 0: `swap0`.
    Swap(u32),
    /// Anything else, such as the UUIDs that the first descriptors had. It claims nothing.
    Unknown(String),
}

impl Purpose {
    /// The UUID that marks what was made for a BE with this id: version 5 (RFC 9562, 5.5) of this
    /// text, in the namespace of the id. `uuidgen --sha1 --namespace ID --name /var` prints it too.
    /// `None` for a purpose that is not known.
    pub fn uuid(&self, id: Id) -> Option<Uuid> {
        match self {
            Purpose::Unknown(_) => None,
            known => Some(id.derive(&known.to_string())),
        }
    }

    /// Whether it is the file system of this mount point.
    pub fn is_mounted_on(&self, mount_point: &Path) -> bool {
        matches!(self, Purpose::FileSystem(own) if own == mount_point)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Purpose::FileSystem(mount_point) => mount_point.display().fmt(f),
            Purpose::Swap(number) => write!(f, "swap{number}"),
            Purpose::Unknown(text) => f.pad(text),
        }
    }
}

impl From<String> for Purpose {
    fn from(text: String) -> Self {
        if text.starts_with('/') {
            return Purpose::FileSystem(text.into());
        }
        match text.strip_prefix("swap").and_then(|number| number.parse().ok()) {
            Some(number) => Purpose::Swap(number),
            None => Purpose::Unknown(text),
        }
    }
}

impl From<Purpose> for String {
    fn from(purpose: Purpose) -> Self {
        purpose.to_string()
    }
}

/// A device that bears the mark of a BE.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeDevice {
    /// What it was made for.
    pub purpose: Purpose,
    /// The device node.
    pub device: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::Tool;

    #[test]
    fn the_mark_is_the_uuid_that_others_derive() {
        let id: Id = toml::Value::from("2f0c1a94-0000-4000-8000-000000000000").try_into().unwrap();
        for text in ["/", "/var", "/srv/a b", "swap0", "swap12"] {
            let purpose = Purpose::from(text.to_owned());
            let program =
                "import sys, uuid; print(uuid.uuid5(uuid.UUID(sys.argv[1]), sys.argv[2]))";
            let judge = Tool::new("python3").args(["-c", program, &id.to_string(), text]).run();
            let judge = judge.unwrap();
            assert_eq!(purpose.uuid(id).unwrap().to_string(), judge.trim(), "{text}");
            assert_eq!(String::from(purpose), text);
        }
    }

    #[test]
    fn a_uuid_in_a_descriptor_claims_nothing() {
        for text in ["6f1d2c3b-0000-4000-8000-000000000000", "ABCD-1234", "swap", "swap-1", ""] {
            let purpose = Purpose::from(text.to_owned());
            assert_eq!(purpose, Purpose::Unknown(text.to_owned()));
            assert_eq!(purpose.uuid(Id::random()), None);
        }
    }
}
