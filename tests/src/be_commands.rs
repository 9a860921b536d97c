//! Runs `be` in a machine.

use anyhow::{Context, Result, ensure};
use qemu::{Machine, Output, deadline};
use serde_json::Value;
use std::path::PathBuf;

/// Seconds that a verb of `be` may take in an emulated machine: `create` copies a whole system.
const VERB_TIMEOUT: u64 = 900;

/// The built static program: `$LIFEBOAT_BE`, or else `target/lifeboat/be`.
///
/// # Errors
/// The program is not built.
pub fn be_program() -> Result<PathBuf> {
    let path = std::env::var_os("LIFEBOAT_BE")
        .map_or_else(|| qemu::target_dir().join("lifeboat/be"), PathBuf::from);
    ensure!(path.exists(), "{} does not exist: run `make build`", path.display());
    Ok(path)
}

/// The commands of `be`, run by the real program in a running machine.
pub trait BeCommands {
    /// Installs the built program.
    ///
    /// # Errors
    /// The program is not built, or the guest does not respond.
    fn install_be(&self) -> Result<()>;

    /// Runs `be ARGUMENTS` and returns its standard output.
    ///
    /// # Errors
    /// The exit status is not 0.
    fn be(&self, arguments: &str) -> Result<String>;

    /// Runs `be ARGUMENTS`, which may fail.
    ///
    /// # Errors
    /// The guest does not respond.
    fn try_be(&self, arguments: &str) -> Result<Output>;

    /// Runs `be ARGUMENTS --json` and parses its output.
    ///
    /// # Errors
    /// The exit status is not 0, or the output is not JSON.
    fn be_json(&self, arguments: &str) -> Result<Value>;

    /// The boot environment `name` in the output of `be list NAME --json`.
    ///
    /// # Errors
    /// As [`BeCommands::be`], or it is not listed.
    fn environment(&self, name: &str) -> Result<Value>;

    /// The cell of the boot environment `name` in the column `title` of `be list`.
    ///
    /// # Errors
    /// As [`BeCommands::be`], or the line or column does not exist.
    fn listed(&self, name: &str, title: &str) -> Result<String>;

    /// The name of the running boot environment.
    ///
    /// # Errors
    /// As [`BeCommands::be`].
    fn current_be(&self) -> Result<String>;
}

impl BeCommands for Machine {
    fn install_be(&self) -> Result<()> {
        self.put(&be_program()?, "/usr/local/sbin/be").context("installing be")?;
        Ok(())
    }

    fn be(&self, arguments: &str) -> Result<String> {
        Ok(self.run_within(&format!("be {arguments}"), deadline(VERB_TIMEOUT))?.stdout)
    }

    fn try_be(&self, arguments: &str) -> Result<Output> {
        Ok(self.try_run_within(&format!("be {arguments}"), deadline(VERB_TIMEOUT))?)
    }

    fn be_json(&self, arguments: &str) -> Result<Value> {
        let text = self.be(&format!("{arguments} --json"))?;
        serde_json::from_str(&text)
            .with_context(|| format!("`be {arguments} --json` printed {text:?}"))
    }

    fn environment(&self, name: &str) -> Result<Value> {
        let list = self.be_json(&format!("list {name}"))?;
        let found = list["environments"].as_array().and_then(|all| all.first()).cloned();
        found.with_context(|| format!("{name} is not in the list: {list:#}"))
    }

    fn listed(&self, name: &str, title: &str) -> Result<String> {
        let list = self.be("list")?;
        cell(&list, name, title)
            .with_context(|| format!("no {title} of {name} in the list:\n{list}"))
    }

    fn current_be(&self) -> Result<String> {
        Ok(self.be("current")?.trim().to_owned())
    }
}

/// A cell of a table whose columns are aligned with their titles. The first column is the name.
fn cell(table: &str, name: &str, title: &str) -> Option<String> {
    let header = table.lines().next()?;
    let row = table.lines().skip(1).find(|line| line.split(' ').next() == Some(name))?;
    let start = header.find(title)?;
    let title_end = start + title.len();
    let end = header[title_end..].find(|c| c != ' ').map_or(row.len(), |gap| title_end + gap);
    Some(row.get(start..end.min(row.len()))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_found_below_its_title() {
        let table = "NAME    OS         KERNEL          DEVICES\n\
                     first   Debian 12  6.1.0-50-amd64  /dev/vda2\n\
                     second  Debian 12  -               /dev/vda3,/dev/vdb1\n";
        for (name, title, expected) in [
            ("first", "KERNEL", "6.1.0-50-amd64"),
            ("second", "KERNEL", "-"),
            ("second", "OS", "Debian 12"),
            ("second", "DEVICES", "/dev/vda3,/dev/vdb1"),
        ] {
            assert_eq!(cell(table, name, title).unwrap(), expected);
        }
        assert_eq!(cell(table, "third", "OS"), None);
        assert_eq!(cell(table, "first", "SIZE"), None);
    }
}
