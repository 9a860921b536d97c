//! Reads limited parts of files on a foreign root.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use crate::root_dir::RootDir;

/// Opens a regular file of the BE. Also returns its size.
pub(super) fn regular(root: &RootDir, path: impl AsRef<Path>) -> Option<(File, u64)> {
    let file = root.file(path).ok()??;
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some((file, metadata.len()))
}

/// Reads up to `len` bytes, or fewer at the end of the file.
pub(super) fn read_at(file: &File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut bytes[filled..], offset + filled as u64)? {
            0 => break,
            more => filled += more,
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Whether the file has an execute permission.
pub(super) fn is_executable(file: &File) -> bool {
    file.metadata().is_ok_and(|m| m.permissions().mode() & 0o111 != 0)
}
