//! Lifeboat's own program in a BE.

use std::io::Read;
use std::path::Path;

use crate::error::{Doing, Result};
use crate::rooted::Rooted;

/// Where every BE keeps the program, relative to its root.
pub const PROGRAM_PATH: &str = "usr/lib/lifeboat/be";

/// Puts `program` (the one that runs) into the BE at `root`.
///
/// # Errors
/// When it cannot be read or written.
pub fn install_program(root: &Path, program: &Path) -> Result<Vec<String>> {
    install(&Rooted::open(root)?, program)
}

pub(super) fn install(root: &Rooted, program: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(program).at("reading", program)?;
    let mut installed = Vec::new();
    if let Some(file) = root.file(PROGRAM_PATH)? {
        let limit = bytes.len() as u64 + 1;
        file.take(limit).read_to_end(&mut installed).at("reading", &root.path().join(PROGRAM_PATH))?;
    }
    if installed == bytes {
        return Ok(Vec::new());
    }
    root.write(PROGRAM_PATH, &bytes, 0o755)?;
    Ok(vec![format!("/{PROGRAM_PATH} installed")])
}
