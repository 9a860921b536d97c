//! The name of a loader in a descriptor.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A loader's name: `[a-z0-9][a-z0-9-]{0,31}`. An unknown name is kept, so that a BE that a newer
/// program made can be listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LoaderName(String);

impl LoaderName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the loader of a descriptor that does not name one.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// Always `grub`, the first loader: old descriptors do not name one.
impl Default for LoaderName {
    fn default() -> Self {
        LoaderName("grub".into())
    }
}

impl FromStr for LoaderName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let is_letter = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let legal = text.len() <= 32
            && text.bytes().next().is_some_and(is_letter)
            && text.bytes().all(|b| is_letter(b) || b == b'-');
        if legal {
            return Ok(LoaderName(text.into()));
        }
        Err(format!("'{}' is not the name of a loader, such as grub", text.escape_default()))
    }
}

impl TryFrom<String> for LoaderName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<LoaderName> for String {
    fn from(name: LoaderName) -> String {
        name.0
    }
}

impl fmt::Display for LoaderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_no_special_characters() {
        for legal in ["grub", "systemd-boot", "efistub2"] {
            assert_eq!(legal.parse::<LoaderName>().unwrap().as_str(), legal);
        }
        for wrong in ["", "-grub", "GRUB", "a b", "a\x1b[2J", "../grub", &"g".repeat(33)] {
            assert!(wrong.parse::<LoaderName>().is_err(), "{wrong:?}");
        }
    }
}
