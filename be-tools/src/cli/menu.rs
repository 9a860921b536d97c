//! `be menu`

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use super::context::Context;
use crate::error::{Doing, Error, Result};
use crate::host::Host;

/// The program that shows it, seen from the directory of this one.
const PROGRAM: &str = "../libexec/lifeboat/menu";

/// Show the boot environments, and act on them by keys (lu)
#[derive(Debug, Args)]
#[command(
    after_help = "It is the menu of the rescue image on this system. Each key runs the `be` command \
        that it prints."
)]
pub struct Menu {}

impl Menu {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("menu")?;
        if context.host.is_rescue_image() {
            let here = "the rescue image has its menu on each console: `exit` leaves this shell";
            return Err(Error::Usage(here.into()));
        }
        if !std::io::stdin().is_terminal() {
            return Err(Error::Usage("the menu needs a terminal: `be list` prints".into()));
        }
        let be = std::env::current_exe().doing(|| "finding this program".into())?;
        let program = program(&be)?;
        let failed = Command::new(&program)
            .arg("menu")
            .arg("--console")
            .arg(terminal(&context.host))
            .arg("--directory")
            .arg(context.host.work_directory("menu")?)
            .arg("--be")
            .arg(be)
            .exec();
        Err(failed).doing(|| format!("starting {}", program.display()))
    }
}

/// The program that shows the menu.
fn program(be: &Path) -> Result<PathBuf> {
    let program = be.parent().unwrap_or(Path::new("/")).join(PROGRAM);
    if program.exists() {
        return Ok(program);
    }
    Err(Error::Failed(format!(
        "the menu is not installed: {} is missing; the package lifeboat and `make install` bring it, \
        and `be list` shows what there is",
        program.display()
    )))
}

/// What the terminal is called, such as `pts/0`.
fn terminal(host: &Host) -> String {
    let name = std::fs::read_link(host.proc.join("self/fd/0")).unwrap_or_default();
    name.strip_prefix("/dev").unwrap_or(Path::new("terminal")).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_is_installed_beside_the_program() {
        let directory = tempfile::tempdir().unwrap();
        let be = directory.path().join("sbin/be");
        let missing = program(&be).unwrap_err().to_string();
        assert!(missing.contains("be list"), "{missing}");
        for made in ["sbin", "libexec/lifeboat"] {
            std::fs::create_dir_all(directory.path().join(made)).unwrap();
        }
        std::fs::write(directory.path().join("libexec/lifeboat/menu"), "").unwrap();
        assert!(program(&be).unwrap().ends_with(PROGRAM));
    }
}
