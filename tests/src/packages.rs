//! The Debian packages of `make deb`.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

/// The directory with the packages.
pub fn directory() -> PathBuf {
    qemu::target_dir().join("deb")
}

/// The packages, by name.
///
/// # Errors
/// They are not built.
pub fn files() -> Result<Vec<PathBuf>> {
    let directory = directory();
    let entries = std::fs::read_dir(&directory)
        .with_context(|| format!("{} does not exist: run `make deb`", directory.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        found.extend(path.extension().is_some_and(|end| end == "deb").then_some(path));
    }
    ensure!(found.len() == 2, "{} packages in {}, not 2", found.len(), directory.display());
    found.sort();
    Ok(found)
}
