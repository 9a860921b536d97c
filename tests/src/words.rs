//! A machine that speaks `be`.

use anyhow::{Context, Result, ensure};
use qemu::{Machine, Output, deadline};
use serde_json::Value;
use std::path::PathBuf;

/// How long one `be` verb may take in an emulated machine, in seconds: a create copies a whole
/// system.
const VERB: u64 = 900;

/// The static program as built: `$LIFEBOAT_BE`, or `target/lifeboat/be`.
///
/// # Errors
/// It is not built.
pub fn be_program() -> Result<PathBuf> {
    let path = std::env::var_os("LIFEBOAT_BE")
        .map_or_else(|| qemu::target_dir().join("lifeboat/be"), PathBuf::from);
    ensure!(path.exists(), "{} is not there: run `make build`", path.display());
    Ok(path)
}

/// What a machine does with boot environments. Every word runs the real program in the running
/// system.
pub trait BeWords {
    /// Installs the program as it was built.
    ///
    /// # Errors
    /// It is not built, or the guest is not there.
    fn install_be(&self) -> Result<()>;

    /// `be ARGUMENTS`, that must succeed; gives back its standard output.
    ///
    /// # Errors
    /// Another exit status than 0.
    fn be(&self, arguments: &str) -> Result<String>;

    /// `be ARGUMENTS`, whatever its exit status.
    ///
    /// # Errors
    /// The guest is not there.
    fn try_be(&self, arguments: &str) -> Result<Output>;

    /// `be ARGUMENTS --json`, parsed.
    ///
    /// # Errors
    /// Another exit status than 0, or no JSON.
    fn be_json(&self, arguments: &str) -> Result<Value>;

    /// What `be list NAME --json` says of one.
    ///
    /// # Errors
    /// As [`BeWords::be`], or it is not listed.
    fn environment(&self, name: &str) -> Result<Value>;

    /// What `be list`, as it is printed, says of one in the column with this title.
    ///
    /// # Errors
    /// As [`BeWords::be`], or there is no such line or column.
    fn listed(&self, name: &str, title: &str) -> Result<String>;

    /// The name of the boot environment that is running.
    ///
    /// # Errors
    /// As [`BeWords::be`].
    fn current_be(&self) -> Result<String>;
}

impl BeWords for Machine {
    fn install_be(&self) -> Result<()> {
        self.put(&be_program()?, "/usr/local/sbin/be").context("installing be")?;
        Ok(())
    }

    fn be(&self, arguments: &str) -> Result<String> {
        Ok(self.run_within(&format!("be {arguments}"), deadline(VERB))?.stdout)
    }

    fn try_be(&self, arguments: &str) -> Result<Output> {
        Ok(self.try_run_within(&format!("be {arguments}"), deadline(VERB))?)
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

/// The cell of a table whose columns begin where their titles do. The first column has the name.
fn cell(table: &str, name: &str, title: &str) -> Option<String> {
    let header = table.lines().next()?;
    let row = table.lines().skip(1).find(|line| line.split(' ').next() == Some(name))?;
    let start = header.find(title)?;
    let behind = start + title.len();
    let end = header[behind..].find(|c| c != ' ').map_or(row.len(), |gap| behind + gap);
    Some(row.get(start..end.min(row.len()))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_lies_below_its_title() {
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
