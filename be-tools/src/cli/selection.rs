//! Which files a copy leaves out: what `be create` and `be refresh` have in common.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Doing, Result};
use crate::tree::exclude;

/// Globs, on paths as the boot environment sees them.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Leave out what matches, such as '/var/cache/*'; repeat it for more. A refresh leaves it as
    /// it is
    #[arg(short = 'x', long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leave out what matches a line of this file
    #[arg(long, value_name = "FILE")]
    exclude_from: Option<PathBuf>,
    /// Copy what matches, even if it is excluded
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
}

impl Selection {
    /// Reads the file of globs, if one is named; empty lines and those that begin with `#` are
    /// none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn read(self) -> Result<exclude::Selection> {
        let mut exclude = self.exclude;
        if let Some(file) = &self.exclude_from {
            let text = std::fs::read_to_string(file).at("reading", file)?;
            let lines =
                text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'));
            exclude.extend(lines.map(str::to_owned));
        }
        Ok(exclude::Selection { exclude, include: self.include })
    }
}
