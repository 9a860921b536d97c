//! Lifeboat's own program in a BE.

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
    let root = Rooted::open(root)?;
    let bytes = std::fs::read(program).at("reading", program)?;
    root.write(PROGRAM_PATH, &bytes, 0o755)?;
    Ok(vec![format!("/{PROGRAM_PATH} installed")])
}
