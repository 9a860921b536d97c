//! The name of a boot environment, which can change, and its id, which never does.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{Error, Result};

/// The name of a BE: `[A-Za-z0-9][A-Za-z0-9._-]{0,62}`, and no UUID, which would look like the id of
/// another one. Names that differ only in case are equal.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

impl Name {
    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}
impl Eq for Name {}

impl FromStr for Name {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let legal = text.len() <= 63
            && text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && text.parse::<Id>().is_err();
        if legal {
            return Ok(Name(text.into()));
        }
        Err(Error::Usage(format!(
            "'{}' is not a name for a boot environment: use 1 to 63 letters, digits, '.', '_' or \
            '-', beginning with a letter or digit, and no UUID",
            text.escape_default()
        )))
    }
}

impl TryFrom<String> for Name {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}
impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The id of a BE, which never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Id(Uuid);

impl Id {
    /// Makes a new id.
    pub fn random() -> Self {
        Id(Uuid::new_v4())
    }

    /// The UUID of version 5 of a text in the namespace of this id (RFC 9562, 5.5).
    pub(super) fn derive(&self, text: &str) -> Uuid {
        Uuid::new_v5(&self.0, text.as_bytes())
    }

    /// The first eight hex digits, which name the directory of the BE on the ESP.
    pub fn short(&self) -> String {
        self.0.simple().to_string()[..8].to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Id {
    type Err = uuid::Error;
    fn from_str(text: &str) -> std::result::Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_legal_names_parse() {
        for good in ["a", "9", "nightly", "deb-12.5_x", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", "a\n", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_never_taken_for_an_id() {
        let id = Id::random().to_string();
        for uuid in [id.clone(), id.to_uppercase(), id.replace('-', "")] {
            assert!(uuid.parse::<Name>().is_err(), "{uuid}");
        }
        assert!(id[..35].parse::<Name>().is_ok());
    }

    #[test]
    fn names_that_differ_only_in_case_are_equal() {
        assert_eq!("Second".parse::<Name>().unwrap(), "second".parse::<Name>().unwrap());
    }
}
