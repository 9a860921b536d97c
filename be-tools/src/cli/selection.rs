//! The options on which files are copied. `be create` and `be refresh` have them in common.

use std::path::PathBuf;

use clap::Args;

use super::headings::FILES;
use crate::error::{Doing, Result};
use crate::tree::exclude;

/// Globs, which are matched against paths as the boot environment sees them.
#[derive(Debug, Args)]
#[command(next_help_heading = FILES)]
pub(super) struct Selection {
    /// Leave out files whose path matches, such as '/var/cache/*'; may be repeated. A refresh
    /// leaves such files in the target as they are
    #[arg(short = 'x', long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Leave out files whose path matches a line of FILE
    #[arg(long, value_name = "FILE")]
    exclude_from: Option<PathBuf>,
    /// Copy files whose path matches, even if they are excluded; may be repeated
    #[arg(long, value_name = "GLOB")]
    include: Vec<String>,
}

impl Selection {
    /// Reads the file of globs, if there is one. Empty lines and lines that begin with `#` are
    /// ignored.
    ///
    /// # Errors
    /// The file cannot be read.
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
