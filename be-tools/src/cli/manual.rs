//! `be completions` and `be man`: made from the same definitions as `--help`.

use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man as Page;

use super::solaris;
use crate::error::{Doing, Result};

/// The section of the manual for the commands of the administrator (man(1)).
const SECTION: &str = "8";

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

/// Write the manual pages, also those of the names of Solaris
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
                let mut command = command.disable_help_subcommand(true);
                command.build();
                std::iter::once(command)
                    .chain(solaris::commands())
                    .try_for_each(|command| write_pages(&command, &dir))
                    .at("writing manual pages to", &dir)?;
            }
            None => Page::new(command)
                .section(SECTION)
                .render(&mut std::io::stdout())
                .doing(|| "writing to standard output".into())?,
        }
        Ok(0)
    }
}

/// Writes the page of a command, and those of its subcommands.
fn write_pages(command: &Command, dir: &Path) -> std::io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        write_pages(verb, dir)?;
    }
    Page::new(command.clone()).section(SECTION).generate_to(dir).map(drop)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn every_manual_page_is_in_the_section_for_administrators() {
        let directory = tempfile::tempdir().unwrap();
        let dir = directory.path().join("man8");
        Man { dir: Some(dir.clone()) }.run(crate::cli::Cli::command()).unwrap();
        for name in ["be.8", "be-create.8", "be-boot-entries-add.8", "lucreate.8"] {
            assert!(dir.join(name).exists(), "{name}");
        }
        for file in std::fs::read_dir(&dir).unwrap().map(|file| file.unwrap()) {
            let name = file.file_name().into_string().unwrap();
            let page = name.strip_suffix(".8").unwrap_or_else(|| panic!("{name}"));
            let text = std::fs::read_to_string(file.path()).unwrap();
            assert!(text.contains(&format!(".TH {page} 8 ")), "{name}: {text}");
        }
    }
}
