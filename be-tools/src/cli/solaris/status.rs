//! The table of lustatus(1M), and what else is looked up.

use std::io::Read;
use std::path::Path;

use crate::cli::output::print_line;
use crate::discover;
use crate::environment::BootEnvironment;
use crate::error::{Doing, Error, Refusal, Result};
use crate::host::Host;
use crate::operations::schedule;

/// The longest description that is read from a file, in bytes.
const MAX_DESCRIPTION: u64 = 64 << 10;

/// Prints the table with Solaris's columns.
///
/// # Errors
/// There is no such BE, or the disks cannot be read.
pub(super) fn print(reference: Option<&str>) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Refusal::NotRoot { verb: "lustatus".into() }.into());
    }
    let inventory = discover::glance(&Host::local())?;
    let environments: Vec<&BootEnvironment> = match reference {
        Some(reference) => vec![inventory.find(reference)?],
        None => inventory.environments.iter().collect(),
    };
    lines(&environments).iter().try_for_each(|line| print_line(line))
}

fn lines(environments: &[&BootEnvironment]) -> Vec<String> {
    let longest = environments.iter().map(|e| e.reference.len()).max().unwrap_or_default();
    let width = longest.max(26);
    let mut lines = vec![
        format!("{:<width$} Is       Active Active    Can    Copy", "Boot Environment"),
        format!("{:<width$} Complete Now    On Reboot Delete Status", "Name"),
        format!("{} -------- ------ --------- ------ ----------", "-".repeat(width)),
    ];
    for e in environments {
        let yes = |is: bool| if is { "yes" } else { "no" };
        let is_complete =
            e.descriptor.as_ref().is_some_and(|descriptor| descriptor.refuse_incomplete().is_ok());
        let copying = match e.descriptor.as_ref().and_then(|descriptor| descriptor.operation) {
            Some(operation) => operation.to_string().to_uppercase(),
            None => "-".into(),
        };
        lines.push(format!(
            "{:<width$} {:<8} {:<6} {:<9} {:<6} {copying}",
            e.reference,
            yes(is_complete),
            yes(e.running),
            yes(e.next_boot),
            yes(!e.running),
        ));
    }
    lines
}

/// The id of the only BE for which something is scheduled.
///
/// # Errors
/// Nothing is scheduled, or for several.
pub(super) fn only_scheduled() -> Result<String> {
    let all = schedule::all(&Host::local())?;
    match &all[..] {
        [one] => Ok(one.id.to_string()),
        [] => Err(Error::Usage(
            "nothing is scheduled: name the boot environment on which something is in progress"
                .into(),
        )),
        several => {
            let names: Vec<String> = several.iter().map(|found| found.name.to_string()).collect();
            Err(Error::Usage(format!("name one of what is scheduled: {}", names.join(", "))))
        }
    }
}

/// The text of a file, or of standard input, without its last line end.
///
/// # Errors
/// It cannot be read.
pub(super) fn read_description(file: &str) -> Result<String> {
    let mut text = String::new();
    let path = Path::new(file);
    let read = match file {
        "-" => std::io::stdin().lock().take(MAX_DESCRIPTION).read_to_string(&mut text),
        _ => std::fs::File::open(path)
            .and_then(|file| file.take(MAX_DESCRIPTION).read_to_string(&mut text)),
    };
    read.at("reading", path)?;
    Ok(text.trim_end_matches('\n').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::{Descriptor, Operation};

    #[test]
    fn the_table_has_the_columns_of_solaris() {
        let mut first = BootEnvironment::empty(Path::new("/dev/vda2"));
        let mut descriptor = Descriptor::new("first".parse().unwrap(), None);
        descriptor.operation = Some(Operation::Refresh);
        first.descriptor = Some(descriptor);
        (first.reference, first.running) = ("first".into(), true);
        assert_eq!(
            lines(&[&first]),
            [
                "Boot Environment           Is       Active Active    Can    Copy",
                "Name                       Complete Now    On Reboot Delete Status",
                "-------------------------- -------- ------ --------- ------ ----------",
                "first                      no       yes    no        no     REFRESH",
            ]
        );
    }

    #[test]
    fn a_description_is_read_from_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "before the\nupgrade\n").unwrap();
        let path = file.path().to_str().unwrap();
        assert_eq!(read_description(path).unwrap(), "before the\nupgrade");
        assert!(read_description("/no/such/file").is_err());
    }
}
