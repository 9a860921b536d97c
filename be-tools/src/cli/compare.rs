//! `be compare`

use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::Path;

use clap::Args;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::context::Context;
use super::headings::OUTPUT;
use super::output::{print_json, print_line};
use super::table;
use crate::error::Result;
use crate::escape::say;
use crate::operations::compare::{
    self, Attribute, CompareRequest, Comparison, ConfigurationState, FileStatus,
};

/// Compare two boot environments: packages, files, configuration changed by hand; exit status 5 if
/// they differ (lucompare)
///
/// `<` is only in the first one, `>` only in the second one, `*` in both and different. Times are
/// not compared.
#[derive(Debug, Args)]
pub struct Compare {
    /// A boot environment, or a directory or a tar archive with a `/` in its name, such as ./root
    first: OsString,
    /// Another one; the running boot environment if none is given
    second: Option<OsString>,
    /// Also read files of the same size, and compare their content
    #[arg(short, long)]
    content: bool,
    /// Print only packages, configuration and the number of files
    #[arg(short, long, help_heading = OUTPUT)]
    summary: bool,
    /// Leave out files whose path matches, such as '/var/cache/*'; may be repeated
    #[arg(short = 'x', long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Print JSON
    #[arg(long, help_heading = OUTPUT, display_order = 100)]
    json: bool,
}

impl Compare {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("compare")?;
        let request = CompareRequest {
            first: self.first,
            second: self.second,
            content: self.content,
            exclude: self.exclude,
        };
        let bar = (!context.quiet && std::io::stderr().is_terminal()).then(spinner);
        let progress = |entries| {
            if let Some(bar) = &bar {
                bar.set_position(entries);
            }
        };
        let mut found = compare::compare(&context.host, &request, &progress)?;
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        let status = if found.differs() { 5 } else { 0 };
        if self.json {
            if self.summary {
                found.files.clear();
            }
            print_json(&found)?;
            return Ok(status);
        }
        for warning in &found.warnings {
            say(&format!("warning: {warning}"));
        }
        print(&found, self.summary)?;
        Ok(status)
    }
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    // The template is a constant of this file.
    if let Ok(style) = ProgressStyle::with_template("  {spinner} {elapsed}  {human_pos} entries") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(200));
    bar
}

fn print(found: &Comparison, summary: bool) -> Result<()> {
    let Comparison { first, second, .. } = found;
    if !found.packages.is_empty() {
        print_line("PACKAGES")?;
        for package in &found.packages {
            print_line(&match (&package.first, &package.second) {
                (Some(version), None) => format!("< {} {version}", package.name),
                (None, Some(version)) => format!("> {} {version}", package.name),
                (one, two) => {
                    let version = |v: &Option<String>| v.clone().unwrap_or_default();
                    format!("* {} {} -> {}", package.name, version(one), version(two))
                }
            })?;
        }
        print_line("")?;
    }
    if !found.configuration.is_empty() {
        let mut rows = table::with_header(&["configuration", "package", first, second]);
        for change in &found.configuration {
            let row = [
                change.path.display().to_string(),
                change.package.clone(),
                state(change.first).into(),
                state(change.second).into(),
            ];
            table::add(&mut rows, row);
        }
        table::print(&rows)?;
        print_line("")?;
    }
    if !summary && !found.files.is_empty() {
        print_line("FILES")?;
        for file in &found.files {
            print_line(&line(&file.path, &file.status))?;
        }
        print_line("")?;
    }
    print_line(&sentence(found))
}

fn state(state: Option<ConfigurationState>) -> &'static str {
    match state {
        None => "-",
        Some(ConfigurationState::AsInstalled) => "as installed",
        Some(ConfigurationState::Changed) => "changed by hand",
        Some(ConfigurationState::Removed) => "removed",
    }
}

fn line(path: &Path, status: &FileStatus) -> String {
    let path = path.display();
    let slash = |kind: &str| if kind == "directory" { "/" } else { "" };
    match status {
        FileStatus::OnlyInFirst { kind } => format!("< {path}{}", slash(kind)),
        FileStatus::OnlyInSecond { kind } => format!("> {path}{}", slash(kind)),
        FileStatus::Different { attributes } => {
            let shown: Vec<String> = attributes.iter().map(attribute).collect();
            format!("* {path}  {}", shown.join(", "))
        }
    }
}

/// `mode 0644 -> 0600`, `xattr user.note only in the first`, `content`.
fn attribute(attribute: &Attribute) -> String {
    let Attribute { name, first, second } = attribute;
    match (first.is_empty(), second.is_empty()) {
        (true, true) => name.clone(),
        (false, true) => format!("{name} only in the first"),
        (true, false) => format!("{name} only in the second"),
        (false, false) => format!("{name} {first} -> {second}"),
    }
}

fn sentence(found: &Comparison) -> String {
    let Comparison { first, second, .. } = found;
    let entries = HumanCount(found.entries);
    if !found.differs() {
        return format!("'{first}' and '{second}' do not differ ({entries} entries compared).");
    }
    let count = |wanted: fn(&FileStatus) -> bool| {
        HumanCount(found.files.iter().filter(|file| wanted(&file.status)).count() as u64)
    };
    format!(
        "Of {entries} entries {} are only in '{first}', {} only in '{second}', {} differ. \
        Packages that differ: {}.",
        count(|status| matches!(status, FileStatus::OnlyInFirst { .. })),
        count(|status| matches!(status, FileStatus::OnlyInSecond { .. })),
        count(|status| matches!(status, FileStatus::Different { .. })),
        HumanCount(found.packages.len() as u64)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_one_line() {
        let path = Path::new("/etc/passwd");
        let value = |name: &str, first: &str, second: &str| Attribute {
            name: name.into(),
            first: first.into(),
            second: second.into(),
        };
        for (status, expected) in [
            (FileStatus::OnlyInFirst { kind: "file" }, "< /etc/passwd"),
            (FileStatus::OnlyInSecond { kind: "directory" }, "> /etc/passwd/"),
            (
                FileStatus::Different {
                    attributes: vec![
                        value("mode", "0644", "0600"),
                        value("xattr user.a", "\"1\"", ""),
                        value("content", "", ""),
                    ],
                },
                "* /etc/passwd  mode 0644 -> 0600, xattr user.a only in the first, content",
            ),
        ] {
            assert_eq!(line(path, &status), expected);
        }
    }
}
