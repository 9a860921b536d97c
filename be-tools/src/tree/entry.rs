//! How an entry of a tree is named: by its directory, and its name in it.

use std::ffi::{CStr, CString};

use super::directories::DirectoryId;

/// The name of an entry, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// The directory that holds it.
    pub directory: DirectoryId,
    /// Its name in that directory.
    pub name: &'a CStr,
}

impl EntryRef<'_> {
    /// Copies the name.
    pub fn to_entry_name(self) -> EntryName {
        EntryName { directory: self.directory, name: self.name.to_owned() }
    }
}

/// The name of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryName {
    /// The directory that holds it.
    pub directory: DirectoryId,
    /// Its name in that directory.
    pub name: CString,
}

impl EntryName {
    /// Borrows the name.
    pub fn by_ref(&self) -> EntryRef<'_> {
        EntryRef { directory: self.directory, name: &self.name }
    }
}
