//! `EFI_LOAD_OPTION`: UEFI 2.10, section 3.1.3.

use super::device_path::{self, DevicePath};
use super::ucs2;

/// The firmware tries the entry.
pub const ACTIVE: u32 = 0x0000_0001;
/// The entry is not shown in the firmware's menu.
pub const HIDDEN: u32 = 0x0000_0008;

/// Why a load option could not be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends before its device path does.
    #[error("load option of {0} bytes is truncated")]
    Short(usize),
    /// The description has no terminating NUL.
    #[error("load option has a description without a terminating NUL")]
    Description,
    /// The device path is damaged.
    #[error(transparent)]
    Path(#[from] device_path::Error),
    /// A NUL would terminate the description early.
    #[error("description {0:?} contains a NUL")]
    Nul(String),
    /// The length of the path list does not fit into 16 bits.
    #[error("device path of {0} bytes is too long for a load option; use a shorter path")]
    TooLong(usize),
}

/// The value of a `Boot####` variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOption {
    /// Bits such as [`ACTIVE`] and [`HIDDEN`].
    pub attributes: u32,
    /// What the firmware's menu shows.
    pub description: String,
    /// The program to load.
    pub path: DevicePath,
    /// Data for the loaded program; for a kernel, its command line in UTF-16LE.
    pub optional_data: Vec<u8>,
}

impl LoadOption {
    /// An active option without optional data.
    pub fn new(description: impl Into<String>, path: DevicePath) -> Self {
        Self {
            attributes: ACTIVE,
            description: description.into(),
            path,
            optional_data: Vec::new(),
        }
    }

    /// Parses a variable's data. In the description, U+FFFD replaces invalid UTF-16.
    ///
    /// # Errors
    /// The data is truncated, or the device path is damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let short = Error::Short(bytes.len());
        let (attributes, rest) = bytes.split_first_chunk().ok_or(short.clone())?;
        let (path_length, rest) = rest.split_first_chunk().ok_or(short.clone())?;
        let end = ucs2::end_of_string(rest).ok_or(Error::Description)?;
        let (description, rest) = rest.split_at_checked(end).ok_or(Error::Description)?;
        let path_length = usize::from(u16::from_le_bytes(*path_length));
        let (path, optional_data) = rest.split_at_checked(path_length).ok_or(short)?;
        Ok(Self {
            attributes: u32::from_le_bytes(*attributes),
            description: ucs2::decode_lossy(description),
            path: DevicePath::parse(path)?,
            optional_data: optional_data.to_vec(),
        })
    }

    /// Renders the variable's data.
    ///
    /// # Errors
    /// The description contains a NUL, or the path is too long.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        if self.description.contains('\0') {
            return Err(Error::Nul(self.description.clone()));
        }
        let path = self.path.to_bytes()?;
        let path_length = u16::try_from(path.len()).map_err(|_| Error::TooLong(path.len()))?;
        let mut bytes = self.attributes.to_le_bytes().to_vec();
        bytes.extend(path_length.to_le_bytes());
        bytes.extend(ucs2::encode_nul(&self.description));
        bytes.extend(path);
        bytes.extend(&self.optional_data);
        Ok(bytes)
    }

    /// Whether the firmware tries the entry.
    pub fn is_active(&self) -> bool {
        self.attributes & ACTIVE != 0
    }

    /// Makes the firmware try the entry or skip it.
    pub fn set_active(&mut self, active: bool) {
        if active {
            self.attributes |= ACTIVE;
        } else {
            self.attributes &= !ACTIVE;
        }
    }

    /// Whether the file is in Lifeboat's directory on an ESP, `\EFI\lifeboat\`. FAT ignores case,
    /// and firmware treats a slash as a backslash.
    pub fn is_lifeboat(&self) -> bool {
        let Some(file) = self.path.file() else {
            return false;
        };
        let parts: Vec<&str> =
            file.split(['\\', '/']).filter(|part| !part.is_empty() && *part != ".").collect();
        match parts.as_slice() {
            [efi, lifeboat, rest @ ..] => {
                efi.eq_ignore_ascii_case("EFI")
                    && lifeboat.eq_ignore_ascii_case("lifeboat")
                    && !rest.is_empty()
                    && !rest.contains(&"..")
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
