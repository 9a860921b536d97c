//! What the person at the terminal sees of an operation: plan, question, steps, progress, warnings.

use std::io::{BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressStyle};

use super::{Acting, log, print_json, print_line};
use crate::environment::Descriptor;
use crate::error::{Refusal, Result};
use crate::escape::say;
use crate::plan::{Plan, PlannedParent, Progress, Report};

const BY_BYTES: &str =
    "  {bar:30} {percent:>3} %  {bytes}/{total_bytes}  {bytes_per_sec}  {msg}  {eta} left";
const BY_FILES: &str =
    "  {bar:30} {percent:>3} %  {human_pos}/{human_len} files  {per_sec}  {msg}  {eta} left";

/// A [`Report`] on standard output (the plan) and standard error (everything that moves).
pub struct Terminal {
    verb: &'static str,
    dry_run: bool,
    yes: bool,
    /// Neither question nor plan, unless the plan is all that is wanted.
    unasked: bool,
    json: bool,
    quiet: bool,
    verbose: bool,
    bar: Option<ProgressBar>,
    started: Instant,
    last: Progress,
}

impl Terminal {
    pub(super) fn new(verb: &'static str, acting: &Acting, quiet: bool, verbose: bool) -> Self {
        Terminal {
            verb,
            dry_run: acting.dry_run,
            yes: acting.yes,
            unasked: false,
            json: acting.json,
            quiet,
            verbose,
            bar: None,
            started: Instant::now(),
            last: Progress::default(),
        }
    }

    /// Shows the plan only with `--dry-run` or `--json`, and does not ask.
    pub(super) fn unasked(mut self) -> Self {
        (self.unasked, self.yes) = (true, true);
        self
    }

    /// A line for people, above a progress bar if there is one.
    pub fn say(&self, line: &str) {
        log::note(line);
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// Says which files could not be read, and what became of them. The exit status.
    pub fn lost(&self, descriptor: &Descriptor, became: &str) -> u8 {
        let lost = descriptor.lost_count();
        if lost == 0 {
            return 0;
        }
        for path in &descriptor.lost {
            self.say(&format!("lost: {}", path.display()));
        }
        if descriptor.lost_more > 0 {
            self.say(&format!("lost: {} more", descriptor.lost_more));
        }
        let name = &descriptor.name;
        self.say(&format!(
            "{lost} files of the source could not be read: in '{name}' they {became}; activating \
            it takes --force."
        ));
        4
    }

    fn begin(&mut self, line: &str) {
        self.end_step();
        self.say(line);
        if !self.quiet && !self.verbose && std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some(bar);
        }
    }

    fn end_step(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if self.last.files > 0 || self.last.bytes > 0 {
            let took = self.started.elapsed();
            let rate = self.last.bytes as f64 / took.as_secs_f64().max(0.001);
            let files = match self.last.files {
                0 => String::new(),
                some => format!("{} files, ", HumanCount(some)),
            };
            self.say(&format!(
                "  {files}{} in {} ({}/s)",
                HumanBytes(self.last.bytes),
                HumanDuration(took),
                HumanBytes(rate as u64)
            ));
        }
        self.last = Progress::default();
        self.started = Instant::now();
    }

    fn show(&self, plan: &Plan) -> Result<()> {
        lines(plan).iter().try_for_each(|line| print_line(line))
    }

    fn ask(&self) -> Result<bool> {
        if !std::io::stdin().is_terminal() {
            return Err(Refusal::NotConfirmed.into());
        }
        let _ = std::io::stderr().write_all(b"Go on? [y/N] ");
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        Ok(read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
    }
}

/// The plan as it is shown, a value to a line.
fn lines(plan: &Plan) -> Vec<String> {
    let mut lines = vec![plan.title.clone(), String::new()];
    if !plan.devices.is_empty() {
        lines.push("Devices that will be written to:".into());
        for d in &plan.devices {
            match &d.parent {
                None => lines.push(format!(
                    "  {}  {}  {}",
                    d.device,
                    HumanBytes(d.size),
                    make(&d.model, &d.serial).unwrap_or_else(|| "unnamed disk".into())
                )),
                Some(parent) => {
                    lines.push(format!("  {}  {}  to be made", d.device, HumanBytes(d.size)));
                    lines.push(parent_line(parent));
                }
            }
            lines.push(format!("      holds {}", d.holds));
            lines.push(format!("      becomes {}", d.becomes));
        }
        lines.push(String::new());
    }
    lines.push("Steps:".into());
    lines.extend(plan.steps.iter().enumerate().map(|(index, step)| numbered(index + 1, step)));
    lines.extend(plan.notes.iter().flat_map(|note| [String::new(), format!("Note: {note}")]));
    lines.push(String::new());
    lines
}

/// Model and serial number, where there is any.
fn make(model: &str, serial: &str) -> Option<String> {
    match [model, serial].map(str::trim) {
        ["", ""] => None,
        [model, ""] => Some(model.to_owned()),
        ["", serial] => Some(format!("serial {serial}")),
        [model, serial] => Some(format!("{model}, serial {serial}")),
    }
}

fn parent_line(parent: &PlannedParent) -> String {
    let make = make(&parent.model, &parent.serial).map(|make| format!("  {make}"));
    format!(
        "      from {} {}  {}{}",
        parent.kind.name(),
        parent.name,
        HumanBytes(parent.size),
        make.unwrap_or_default()
    )
}

/// A step, the same in the plan, on the terminal and in the log.
fn numbered(number: usize, line: &str) -> String {
    format!("{number:>4}. {line}")
}

impl Report for Terminal {
    fn confirm(&mut self, plan: &Plan) -> Result<bool> {
        let mut plan = plan.clone();
        let file = log::planned(self.verb);
        plan.notes.push(format!("a log of this operation is written to {}", file.display()));
        if self.json {
            print_json(&plan)?;
        } else if self.dry_run || (!self.unasked && (!self.quiet || !self.yes)) {
            self.show(&plan)?;
        }
        if self.dry_run {
            return Ok(false);
        }
        if !self.yes && !self.ask()? {
            return Err(Refusal::NotConfirmed.into());
        }
        log::open(&file);
        lines(&plan).iter().filter(|line| !line.is_empty()).for_each(|line| log::note(line));
        self.started = Instant::now();
        Ok(true)
    }

    fn step(&mut self, number: usize, line: &str) {
        self.begin(&numbered(number, line));
    }

    fn part(&mut self, line: &str) {
        self.begin(&format!("      {line}"));
    }

    fn progress(&mut self, progress: &Progress) {
        self.last = *progress;
        let Some(bar) = &self.bar else { return };
        // What is copied anew is measured by its bytes, what is compared by its files.
        let total = match (progress.total_bytes, progress.total_files) {
            (Some(bytes), _) => Some((bytes, BY_BYTES)),
            (None, Some(files)) => Some((files.max(progress.files), BY_FILES)),
            (None, None) => None,
        };
        if let Some((total, template)) = total {
            if bar.length().is_none() {
                // A template that is a constant either always parses or never does; the default
                // style is no harm.
                bar.set_style(
                    ProgressStyle::with_template(template)
                        .unwrap_or_else(|_| ProgressStyle::default_bar()),
                );
            }
            bar.set_length(total);
        }
        if progress.total_bytes.is_some() {
            bar.set_position(progress.bytes);
            // Blocks are no files.
            if progress.files > 0 {
                bar.set_message(format!("{} files", HumanCount(progress.files)));
            }
        } else {
            bar.set_position(progress.files);
            bar.set_message(format!("{} written", HumanBytes(progress.bytes)));
        }
    }

    fn warn(&mut self, message: &str) {
        self.say(&format!("warning: {message}"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.end_step();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{ParentKind, PlannedDevice};

    fn device() -> PlannedDevice {
        PlannedDevice {
            device: "/dev/vdb2".into(),
            model: "QEMU ".into(),
            serial: String::new(),
            size: 2 << 30,
            holds: "ext4\n  nothing".into(),
            becomes: "/ (xfs)".into(),
            parent: None,
        }
    }

    #[test]
    fn what_does_not_exist_yet_is_shown_with_what_it_comes_from() {
        let disk = PlannedParent {
            kind: ParentKind::Disk,
            name: "/dev/vdb".into(),
            model: "Acme".into(),
            serial: "7".into(),
            size: 8 << 30,
        };
        let group = PlannedParent {
            kind: ParentKind::Group,
            name: "vg".into(),
            model: String::new(),
            serial: String::new(),
            ..disk.clone()
        };
        let shown = |parent: PlannedParent| {
            let devices = vec![PlannedDevice { parent: Some(parent), ..device() }];
            lines(&Plan { devices, ..Plan::default() })[3..5].to_vec()
        };
        assert_eq!(
            shown(disk),
            [
                "  /dev/vdb2  2.00 GiB  to be made",
                "      from disk /dev/vdb  8.00 GiB  Acme, serial 7"
            ]
        );
        assert_eq!(shown(group)[1], "      from group vg  8.00 GiB");
        let json = serde_json::to_value(device()).unwrap();
        assert!(json.get("parent").is_none(), "{json}");
    }

    #[test]
    fn a_plan_has_a_line_for_each_thing() {
        let plan = Plan {
            title: "Make".into(),
            devices: vec![device()],
            steps: vec!["make".into(), "copy".into()],
            notes: vec!["wait".into()],
        };
        let expected = [
            "Make",
            "",
            "Devices that will be written to:",
            "  /dev/vdb2  2.00 GiB  QEMU",
            "      holds ext4\n  nothing",
            "      becomes / (xfs)",
            "",
            "Steps:",
            "   1. make",
            "   2. copy",
            "",
            "Note: wait",
            "",
        ];
        assert_eq!(lines(&plan), expected);
    }
}
