//! `be verify`

use std::io::IsTerminal;

use clap::Args;
use indicatif::{HumanBytes, HumanCount, ProgressBar, ProgressStyle};

use super::acting_options::ActingOptions;
use super::context::Context;
use super::headings::OUTPUT;
use super::output::{print_json, print_line};
use crate::error::Result;
use crate::escape::{path_text, say};
use crate::operations::verify::{
    self, FileFinding, FileStatus, RepairRequest, Verification, VerifyRequest,
};
use crate::tree::inspect::Inspected;

/// Prove that a boot environment is as it was when it was last complete: every file against the
/// hash that was recorded then; exit status 5 if one differs
///
/// A file is damaged if it differs although no program has written to it since: its disk returns
/// other bytes, or none. The others were changed by somebody. In the running boot environment,
/// changes are expected, and only counted.
#[derive(Debug, Args)]
#[command(
    after_help = "The manifest is written by create, refresh, run and upgrade. Files are read from \
        the disk, so this takes as long as reading all of it. Damage is mended with --repair-from, \
        or with `be refresh --checksum`.\n\nExamples:\n  \
    be verify second\n  \
    be verify second --repair-from first\n  \
    be verify --record                        # of the running one, after it was upgraded"
)]
pub struct Verify {
    /// The boot environment; the running one if none is given
    be: Option<String>,
    /// Only count what was changed: list damage, and end with 5 only if there is some
    #[arg(short, long)]
    damage: bool,
    /// Print only the numbers
    #[arg(short, long, help_heading = OUTPUT)]
    summary: bool,
    /// Leave out files whose path matches, such as '/var/log/*'; may be repeated
    #[arg(short = 'x', long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Put the content of damaged files back from this boot environment, where it has them as they
    /// were recorded
    #[arg(long, value_name = "BE", conflicts_with_all = ["record", "damage", "summary"])]
    repair_from: Option<String>,
    /// Write the manifest again, of what is there now; from then on that is what is right
    #[arg(long, conflicts_with_all = ["damage", "summary", "exclude"])]
    record: bool,
    #[command(flatten)]
    acting: ActingOptions,
}

impl Verify {
    pub(super) fn run(self, context: &Context) -> Result<u8> {
        context.need_root("verify")?;
        if self.record {
            let mut report = context.unasked_report("verify", &self.acting);
            verify::record(&context.host, self.be.as_deref(), &mut report)?;
            return Ok(report.status());
        }
        if let Some(from) = &self.repair_from {
            return self.repair(context, from);
        }
        let request = VerifyRequest { reference: self.be.clone(), exclude: self.exclude.clone() };
        let bar = Bar::new(context);
        let mut found = verify::verify(&context.host, &request, &mut |count, total| {
            bar.show(count, total);
        })?;
        drop(bar);
        let only_damage = self.damage || found.running;
        let differs = !found.damaged.is_empty() || !only_damage && !found.changed.is_empty();
        // In the running system, what changed while it was read cannot be recorded.
        let is_proved = (found.unproved == 0 || found.running) && found.whole;
        let status = match (differs, is_proved) {
            (true, _) => 5,
            (false, true) => 0,
            (false, false) => 4,
        };
        if self.acting.json {
            if self.summary {
                found.changed.clear();
            }
            print_json(&found)?;
            return Ok(status);
        }
        for warning in &found.warnings {
            say(&format!("warning: {warning}"));
        }
        if !self.summary {
            let damaged = found.damaged.iter().map(|finding| line(finding, "damaged"));
            let changed = found.changed.iter().filter(|_| !only_damage);
            let changed = changed.map(|finding| line(finding, "changed"));
            damaged.chain(changed).try_for_each(|line| print_line(&line))?;
        }
        print_line(&sentence(&found))?;
        Ok(status)
    }

    fn repair(&self, context: &Context, from: &str) -> Result<u8> {
        let Some(be) = &self.be else {
            return Err(crate::Error::Usage(
                "--repair-from needs the name of the boot environment that is repaired".into(),
            ));
        };
        let request = RepairRequest { reference: be, from, exclude: &self.exclude };
        let mut report = context.report("verify", &self.acting);
        let Some(done) = verify::repair(&context.host, request, &mut report)? else {
            return Ok(0);
        };
        for (path, why) in &done.left {
            report.say(&format!("{} stays damaged: {why}", path.display()));
        }
        report.say(&match (done.files.len(), done.left.len()) {
            (0, 0) => format!("No file of '{be}' is damaged."),
            (files, 0) => format!("{files} damaged files of '{be}' have their content again."),
            (files, left) => {
                format!("{files} damaged files of '{be}' have their content again, {left} do not.")
            }
        });
        Ok(if done.left.is_empty() { report.status() } else { 4 })
    }
}

/// How far it is, on a terminal.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(context: &Context) -> Self {
        Bar((!context.quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new(0);
            let template = "  {elapsed}  {bar:24} {percent}%  {human_pos} entries  {msg}";
            // The template is a constant of this file.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        }))
    }

    fn show(&self, count: Inspected, total: u64) {
        if let Some(bar) = &self.0 {
            bar.set_length(total.max(count.entries));
            bar.set_position(count.entries);
            bar.set_message(HumanBytes(count.bytes).to_string());
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// `damaged /usr/bin/bash (bash): content`; `differs` is what one that differs is.
fn line(finding: &FileFinding, differs: &str) -> String {
    let path = path_text(&finding.path);
    let package =
        finding.package.as_ref().map_or_else(String::new, |package| format!(" ({package})"));
    match &finding.status {
        FileStatus::Different { attributes } => {
            format!("{differs}  {path}{package}: {}", attributes.join(", "))
        }
        FileStatus::Unreadable { reason } => format!("{differs}  {path}{package}: {reason}"),
        FileStatus::Missing { kind } => format!("missing  {path}{}{package}", slash(kind)),
        FileStatus::Added { kind } => format!("added    {path}{}{package}", slash(kind)),
    }
}

fn slash(kind: &str) -> &'static str {
    if kind == "directory" { "/" } else { "" }
}

fn sentence(found: &Verification) -> String {
    let name = &found.name;
    let entries = HumanCount(found.entries);
    let read = HumanBytes(found.bytes);
    let unproved = match found.unproved {
        0 => String::new(),
        count => format!(
            " The content of {} files was never recorded, and is not proved: `be verify --record \
            {}` reads it.",
            HumanCount(count),
            found.reference
        ),
    };
    if found.damaged.is_empty() && found.changed.is_empty() {
        return format!(
            "'{name}' is as it was when it was last complete ({entries} entries, {read} read).\
            {unproved}"
        );
    }
    let count = |wanted: fn(&FileStatus) -> bool| {
        found.changed.iter().filter(|finding| wanted(&finding.status)).count() as u64
    };
    let missing = count(|status| matches!(status, FileStatus::Missing { .. }));
    let added = count(|status| matches!(status, FileStatus::Added { .. }));
    let changed = found.changed.len() as u64 - missing - added;
    let mut sentence = format!(
        "{entries} entries of '{name}' ({read} read): {} damaged; since it was last complete {} \
        changed, {} removed, {} added.",
        HumanCount(found.damaged.len() as u64),
        HumanCount(changed),
        HumanCount(missing),
        HumanCount(added)
    );
    sentence.push_str(&unproved);
    if !found.damaged.is_empty() && !found.running {
        sentence.push_str(&format!(
            " `be verify {} --repair-from BE` puts damaged files back from another boot \
            environment.",
            found.reference
        ));
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let different = || FileStatus::Different { attributes: vec!["mode", "content"] };
        for (status, package, differs, expected) in [
            (different(), Some("bash"), "damaged", "damaged  /usr/x (bash): mode, content"),
            (different(), None, "changed", "changed  /usr/x: mode, content"),
            (
                FileStatus::Unreadable { reason: "Input/output error".into() },
                None,
                "damaged",
                "damaged  /usr/x: Input/output error",
            ),
            (FileStatus::Missing { kind: "directory" }, None, "changed", "missing  /usr/x/"),
            (FileStatus::Added { kind: "file" }, None, "changed", "added    /usr/x"),
        ] {
            let package = package.map(str::to_owned);
            let finding = FileFinding { path: "/usr/x".into(), package, status };
            assert_eq!(line(&finding, differs), expected);
        }
    }

    #[test]
    fn the_sentence_counts_each_kind() {
        let mut found = Verification { name: "second".into(), entries: 4321, ..Default::default() };
        assert_eq!(
            sentence(&found),
            "'second' is as it was when it was last complete (4,321 entries, 0 B read)."
        );
        let finding = |status| FileFinding { path: "/x".into(), package: None, status };
        found.changed = vec![
            finding(FileStatus::Added { kind: "file" }),
            finding(FileStatus::Different { attributes: vec!["mode"] }),
        ];
        let text = sentence(&found);
        let numbers = "0 damaged; since it was last complete 1 changed, 0 removed, 1 added.";
        assert!(text.ends_with(numbers), "{text}");
        found.damaged = vec![finding(FileStatus::Unreadable { reason: String::new() })];
        assert!(sentence(&found).contains("--repair-from"));
    }
}
