//! Lifeboat's own program and units in a BE.

use std::io::Read;
use std::path::Path;

use crate::error::{Doing, Result};
use crate::rooted::Rooted;
use crate::units::{installed_files, installed_links};

/// Where every BE keeps the program, relative to its root.
pub const PROGRAM_PATH: &str = "usr/lib/lifeboat/be";

/// What [`install_program`] puts into a BE, relative to its root.
pub fn installed() -> impl Iterator<Item = &'static str> {
    let (files, links) =
        (installed_files().iter().map(|f| f.path), installed_links().iter().map(|l| l.path));
    std::iter::once(PROGRAM_PATH).chain(files).chain(links)
}

/// Puts `program` (the one that runs) and the units that call it into the BE at `root`.
///
/// # Errors
/// When it cannot be read or written.
pub fn install_program(root: &Path, program: &Path) -> Result<Vec<String>> {
    install(&Rooted::open(root)?, program)
}

pub(super) fn install(root: &Rooted, program: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(program).at("reading", program)?;
    let mut installed = Vec::with_capacity(bytes.len());
    if let Some(file) = root.file(PROGRAM_PATH)? {
        let limit = bytes.len() as u64 + 1;
        file.take(limit)
            .read_to_end(&mut installed)
            .at("reading", &root.path().join(PROGRAM_PATH))?;
    }
    let mut done = Vec::new();
    if installed != bytes {
        root.write(PROGRAM_PATH, &bytes, 0o755)?;
        done.push(format!("/{PROGRAM_PATH} installed"));
    }
    for unit in installed_files() {
        if root.read(unit.path)?.as_deref() != Some(unit.contents.as_bytes()) {
            root.write(unit.path, unit.contents.as_bytes(), unit.mode)?;
            done.push(format!("/{} installed", unit.path));
        }
    }
    for link in installed_links() {
        root.symlink(link.path, link.target)?;
        done.push(format!("/{} leads to {}", link.path, link.target));
    }
    Ok(done)
}
