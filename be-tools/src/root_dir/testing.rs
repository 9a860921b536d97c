//! Helpers for tests: file trees that are removed with their handle.

use std::path::Path;

use super::RootDir;

/// A directory with these files, as paths below it and their texts.
pub(crate) fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, RootDir) {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        write(directory.path(), path, text);
    }
    let root = RootDir::open(directory.path()).unwrap();
    (directory, root)
}

/// Writes a file below a directory. The directories on the way are created.
pub(crate) fn write(directory: &Path, path: &str, text: &str) {
    let path = directory.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}
