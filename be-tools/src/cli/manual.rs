//! `be completions` and `be man`: made from the same definitions as `--help`.

use std::path::PathBuf;

use clap::{Args, Command};

use crate::error::{Doing, Result};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

impl Completions {
    pub(super) fn run(self, mut command: Command) -> Result<u8> {
        clap_complete::generate(self.shell, &mut command, "be", &mut std::io::stdout());
        Ok(0)
    }
}

/// Write the manual pages
#[derive(Debug, Args)]
pub struct Man {
    /// The directory to write them to; without it, print be(8)
    dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn run(self, command: Command) -> Result<u8> {
        match self.dir {
            Some(dir) => {
                std::fs::create_dir_all(&dir).at("making the directory", &dir)?;
                clap_mangen::generate_to(command, &dir).at("writing manual pages to", &dir)?;
            }
            None => clap_mangen::Man::new(command)
                .section("8")
                .render(&mut std::io::stdout())
                .doing(|| "writing to standard output".into())?,
        }
        Ok(0)
    }
}
