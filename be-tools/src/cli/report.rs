//! The report of an operation on a terminal: plan, question, steps, progress, warnings.

use std::io::{BufRead, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressState, ProgressStyle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::acting_options::ActingOptions;
use super::heartbeat::{self, Heartbeat, spent};
use super::log;
use super::output::{print_json, print_line};
use crate::environment::{Descriptor, history};
use crate::error::{Refusal, Result};
use crate::escape::{printable, say};
use crate::plan::{
    ChangeKind, PackageChanges, Plan, PlannedDevice, PlannedParent, Progress, Report, Unit, go_on,
};
use crate::tool;

/// How often signals are checked while a question waits for its answer.
const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The style of a step whose progress is not known.
const TIME_ONLY: &str = "  {spinner} {elapsed}{running}";
const BY_BYTES: &str =
    "  {bar:30} {percent:>3} %  {bytes}/{total_bytes}  {bytes_per_sec}  {msg}  {eta} left";
const BY_FILES: &str =
    "  {bar:30} {percent:>3} %  {human_pos}/{human_len}  {per_sec}  {msg}  {eta} left";

/// A [`Report`] that prints the plan on standard output and everything else on standard error.
pub struct Terminal {
    verb: &'static str,
    dry_run: bool,
    yes: bool,
    /// Print no plan, except with `--dry-run` or `--json`, and do not ask, if the plan does not say
    /// otherwise.
    unasked: bool,
    json: bool,
    quiet: bool,
    verbose: bool,
    /// The user's command has the terminal.
    is_handed_over: bool,
    bar: Option<ProgressBar>,
    /// The heartbeat of the running step.
    heartbeat: Option<Heartbeat>,
    started: Instant,
    /// The progress of the running step, or of its running part.
    last: Arc<Mutex<Progress>>,
    /// Something could not be done.
    fell_short: bool,
}

impl Terminal {
    pub(super) fn new(
        verb: &'static str,
        acting: &ActingOptions,
        quiet: bool,
        verbose: bool,
    ) -> Self {
        Terminal {
            verb,
            dry_run: acting.dry_run,
            yes: acting.yes,
            unasked: false,
            json: acting.json,
            quiet,
            verbose,
            is_handed_over: false,
            bar: None,
            heartbeat: None,
            started: Instant::now(),
            last: Arc::default(),
            fell_short: false,
        }
    }

    /// Shows the plan only with `--dry-run` or `--json`, and does not ask, if the plan does not say
    /// otherwise.
    pub(super) fn unasked(mut self) -> Self {
        self.unasked = true;
        self
    }

    /// Leaves the terminal to the user's command, without progress and heartbeat.
    pub(super) fn handed_over(mut self) -> Self {
        self.is_handed_over = true;
        self
    }

    /// Prints a line for people, above the progress bar if there is one.
    pub fn say(&self, line: &str) {
        log::note(line);
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }

    /// The exit status of what did not fail: whether all of it was done.
    pub(super) fn status(&self) -> u8 {
        if self.fell_short { 4 } else { 0 }
    }

    /// Prints which files could not be read, and what became of them. Returns the exit status.
    pub fn lost(&self, descriptor: &Descriptor, became: &str) -> u8 {
        let lost = descriptor.lost_count();
        if lost == 0 {
            return self.status();
        }
        for path in &descriptor.lost {
            self.say(&format!("lost: {}", path.display()));
        }
        if descriptor.lost_more > 0 {
            self.say(&format!("lost: {} more", descriptor.lost_more));
        }
        let name = &descriptor.name;
        self.say(&format!(
            "{lost} files of the source could not be read: in '{name}' they {became}. Activate it \
            with --force."
        ));
        4
    }

    /// Begins a step or a part of one.
    fn begin(&mut self, line: &str) {
        self.end_part();
        // A user who was not asked to confirm the plan does not need to see its steps.
        if self.unasked && !self.verbose {
            log::note(line);
        } else {
            self.say(line);
        }
        let is_silent = self.quiet || self.verbose || self.is_handed_over;
        if !is_silent && std::io::stderr().is_terminal() {
            let bar = ProgressBar::new_spinner();
            bar.set_style(style(TIME_ONLY));
            bar.enable_steady_tick(Duration::from_millis(200));
            self.bar = Some(bar);
        }
    }

    fn end_part(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        let last = std::mem::take(&mut *locked(&self.last));
        if last.files > 0 || last.bytes > 0 {
            let took = self.started.elapsed();
            let rate = last.bytes as f64 / took.as_secs_f64().max(0.001);
            let mut line = format!("  {} in {}", amount(&last), HumanDuration(took));
            if last.bytes > 0 {
                line.push_str(&format!(" ({}/s)", HumanBytes(rate as u64)));
            }
            self.say(&line);
        }
        self.started = Instant::now();
    }

    /// A heartbeat that writes to the log and, if there is no progress bar, to standard error.
    fn beat(&self, step: String) -> Heartbeat {
        let is_said = !self.quiet && self.bar.is_none();
        let last = Arc::clone(&self.last);
        Heartbeat::start(heartbeat::INTERVAL, move |time| {
            let line = still(&step, time, &locked(&last), tool::running().as_deref());
            log::note(&line);
            if is_said {
                say(&line);
            }
        })
    }

    fn show(&self, plan: &Plan) -> Result<()> {
        lines(plan).iter().try_for_each(|line| print_line(line))
    }

    /// Whether the plan is confirmed by the user.
    fn asks(&self, plan: &Plan) -> bool {
        !self.unasked || plan.is_asked
    }

    fn ask(&self, plan: &Plan) -> Result<bool> {
        if !std::io::stdin().is_terminal() {
            return Err(Refusal::NotConfirmed.into());
        }
        let question = format!("{} [y/N] ", printable(&question(plan)));
        let _ = std::io::stderr().write_all(question.as_bytes());
        wait_for_input()?;
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        Ok(read.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
    }
}

/// Waits until standard input has a line or has ended. The terminal hands a line over once it is
/// complete.
///
/// # Errors
/// [`Error::Interrupted`](crate::Error::Interrupted), so that a signal needs no answer first.
fn wait_for_input() -> Result<()> {
    let input = std::io::stdin();
    loop {
        go_on()?;
        match poll(&mut [PollFd::new(&input, PollFlags::IN)], Some(&TICK)) {
            Ok(0) | Err(Errno::INTR) => {}
            // What is wrong is found by the one who reads.
            _ => return Ok(()),
        }
    }
}

/// The lines of a plan as they are printed.
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
    lines.extend(plan.packages.iter().flat_map(package_lines));
    if !plan.steps.is_empty() {
        lines.push("Steps:".into());
    }
    lines.extend(plan.steps.iter().enumerate().map(|(index, step)| numbered(index + 1, step)));
    lines.extend(plan.notes.iter().flat_map(|note| [String::new(), format!("Note: {note}")]));
    lines.push(String::new());
    lines
}

/// What happens to the packages: how many, how much, and their names.
fn package_lines(packages: &PackageChanges) -> Vec<String> {
    let mut lines = vec![format!("Packages: {}", packages.summary())];
    if !packages.changes.is_empty() {
        let then = packages.growth.map_or_else(String::new, |growth| {
            let word = if growth < 0 { "less" } else { "more" };
            format!(", then {} {word} on its disk", HumanBytes(growth.unsigned_abs()))
        });
        lines.push(format!("  {} to download{then}", HumanBytes(packages.download)));
    }
    for (kind, title) in [
        (ChangeKind::Removed, "removed"),
        (ChangeKind::New, "new"),
        (ChangeKind::Upgraded, "upgraded"),
    ] {
        lines.extend(packages.of(kind).map(|change| {
            let versions = [change.from.as_deref(), change.to.as_deref()];
            let versions: Vec<&str> = versions.into_iter().flatten().collect();
            format!("  {title:<9} {}  {}", change.name, versions.join(" -> "))
        }));
    }
    lines.extend(packages.kept_back.iter().map(|name| format!("  {:<9} {name}", "kept back")));
    lines.push(String::new());
    lines
}

/// The question below a plan. It repeats what is lost, because the plan may have left the screen:
/// many terminals have 24 lines, and the Linux console cannot scroll back.
fn question(plan: &Plan) -> String {
    let group = |verb: &str, erased: bool| {
        let there = plan.devices.iter().filter(|d| d.parent.is_none() && d.erased == erased);
        let devices: Vec<String> = there.map(in_question).collect();
        (!devices.is_empty()).then(|| format!("{verb} {}", devices.join(", ")))
    };
    match (group("Erase", true), group("Change", false)) {
        (Some(erase), Some(change)) => format!("{erase}, and {change}?"),
        (Some(one), None) | (None, Some(one)) => format!("{one}?"),
        (None, None) => "Go on?".into(),
    }
}

/// A device by what is lost with it: the BE, or what it holds.
fn in_question(device: &PlannedDevice) -> String {
    let (node, size) = (&device.device, HumanBytes(device.size));
    match &device.environment {
        Some(name) => format!("{node} '{name}' ({size})"),
        None => format!("{node} ({size}, {})", device.holds),
    }
}

/// Model and serial number, if there are any.
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

/// The line of a step: the same in the plan, on the terminal and in the log.
fn numbered(number: usize, line: &str) -> String {
    format!("{number:>4}. {line}")
}

/// The line of a heartbeat: which step is still running, its progress, and the program it runs.
fn still(step: &str, time: Duration, progress: &Progress, program: Option<&str>) -> String {
    let mut line = format!("      still {step}: {}", spent(time));
    if progress.files > 0 || progress.bytes > 0 {
        line.push_str(&format!(", {}", amount(progress)));
    }
    if let Some(program) = program {
        line.push_str(&format!(", running {program}"));
    }
    line
}

fn amount(progress: &Progress) -> String {
    let bytes = HumanBytes(progress.bytes);
    match progress.files {
        0 => bytes.to_string(),
        things => {
            let counted = format!("{} {}", HumanCount(things), progress.unit.name(things));
            if progress.bytes == 0 { counted } else { format!("{counted}, {bytes}") }
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are constants that parse. If one did not, the default style would do.
    let style =
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    // The console's font has no braille, which the default spinner is made of.
    style.tick_chars("|/-\\ ").with_key(
        "running",
        |_: &ProgressState, line: &mut dyn std::fmt::Write| {
            if let Some(program) = tool::running() {
                let _ = write!(line, ", running {program}");
            }
        },
    )
}

fn locked(progress: &Mutex<Progress>) -> std::sync::MutexGuard<'_, Progress> {
    progress.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Report for Terminal {
    fn confirm(&mut self, plan: &Plan) -> Result<bool> {
        let mut plan = plan.clone();
        let asks = self.asks(&plan);
        let file = log::planned(self.verb);
        plan.notes.push(log::note_about(&file));
        if self.json {
            print_json(&plan)?;
        } else if self.dry_run || (asks && (!self.quiet || !self.yes)) {
            self.show(&plan)?;
        }
        if self.dry_run {
            return Ok(false);
        }
        if asks && !self.yes && !self.ask(&plan)? {
            return Err(Refusal::NotConfirmed.into());
        }
        log::open(&file);
        history::note(&plan.title, Some(&file));
        lines(&plan).iter().filter(|line| !line.is_empty()).for_each(|line| log::note(line));
        self.started = Instant::now();
        Ok(true)
    }

    fn step(&mut self, number: usize, line: &str) {
        self.heartbeat = None;
        self.begin(&numbered(number, line));
        if !self.is_handed_over {
            self.heartbeat = Some(self.beat(format!("{number}. {line}")));
        }
    }

    fn part(&mut self, line: &str) {
        self.begin(&format!("      {line}"));
    }

    fn ended(&mut self) {
        self.heartbeat = None;
        self.end_part();
    }

    fn progress(&mut self, progress: &Progress) {
        *locked(&self.last) = *progress;
        let Some(bar) = &self.bar else { return };
        // The progress of a new copy is measured in bytes, that of a comparison in files.
        let total = match (progress.total_bytes, progress.total_files) {
            (Some(bytes), _) => Some((bytes, BY_BYTES)),
            (None, Some(files)) => Some((files.max(progress.files), BY_FILES)),
            (None, None) => None,
        };
        if let Some((total, template)) = total {
            if bar.length().is_none() {
                bar.set_style(style(template));
            }
            bar.set_length(total);
        }
        if progress.total_bytes.is_some() {
            bar.set_position(progress.bytes);
            // A copy of blocks counts no files.
            if progress.files > 0 {
                bar.set_message(format!("{} files", HumanCount(progress.files)));
            }
        } else {
            bar.set_position(progress.files);
            bar.set_message(match progress.unit {
                Unit::Files => format!("files, {} written", HumanBytes(progress.bytes)),
                Unit::Packages => progress.unit.name(0).into(),
            });
        }
    }

    fn fall_short(&mut self, message: &str) {
        self.fell_short = true;
        self.warn(message);
    }

    fn warn(&mut self, message: &str) {
        self.say(&format!("warning: {message}"));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{PackageChange, ParentKind, PlannedDevice};

    #[test]
    fn a_plan_may_ask_where_its_verb_does_not() {
        let acting = ActingOptions { dry_run: false, yes: false, json: false };
        let asked = Terminal::new("delete", &acting, false, false);
        let unasked = Terminal::new("cancel", &acting, false, false).unasked();
        let (plain, upgrade) = (Plan::default(), Plan { is_asked: true, ..Plan::default() });
        assert!(asked.asks(&plain) && asked.asks(&upgrade));
        assert!(!unasked.asks(&plain) && unasked.asks(&upgrade));
    }

    #[test]
    fn a_heartbeat_has_the_time_the_progress_and_the_running_program() {
        let (minutes, nothing) = (Duration::from_secs(90), Progress::default());
        assert_eq!(
            still("7. localize the copy", minutes, &nothing, Some("update-initramfs")),
            "      still 7. localize the copy: 1 min 30 s, running update-initramfs"
        );
        let some = Progress { files: 12_000, bytes: 3 << 30, ..nothing };
        assert_eq!(
            still("3. copy", minutes, &some, None),
            "      still 3. copy: 1 min 30 s, 12,000 files, 3.00 GiB"
        );
    }

    fn device() -> PlannedDevice {
        PlannedDevice {
            device: "/dev/vdb2".into(),
            model: "QEMU ".into(),
            serial: String::new(),
            size: 2 << 30,
            holds: "ext4\n  nothing".into(),
            becomes: "/ (xfs)".into(),
            environment: None,
            erased: true,
            parent: None,
        }
    }

    #[test]
    fn the_question_repeats_what_is_lost() {
        let foreign = || PlannedDevice { holds: "ext4 with label 'data'".into(), ..device() };
        let old = || PlannedDevice { device: "/dev/vda3".into(), size: 3 << 30, ..device() };
        let parent = Some(PlannedParent {
            kind: ParentKind::Group,
            name: "vg".into(),
            model: String::new(),
            serial: String::new(),
            size: 0,
        });
        for (devices, expected) in [
            (vec![], "Go on?"),
            (vec![old().of("second")], "Erase /dev/vda3 'second' (3.00 GiB)?"),
            (
                vec![old().of("second"), foreign()],
                "Erase /dev/vda3 'second' (3.00 GiB), \
                 /dev/vdb2 (2.00 GiB, ext4 with label 'data')?",
            ),
            (
                vec![PlannedDevice { erased: false, ..old().of("second") }],
                "Change /dev/vda3 'second' (3.00 GiB)?",
            ),
            // Nothing is lost with a device that does not exist yet.
            (vec![PlannedDevice { parent, ..device() }], "Go on?"),
        ] {
            assert_eq!(question(&Plan { devices, ..Plan::default() }), expected);
        }
    }

    #[test]
    fn a_device_to_be_made_is_shown_with_its_parent() {
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
    fn a_plan_names_every_package_that_changes() {
        let change = |name: &str, from: Option<&str>, to: Option<&str>| PackageChange {
            name: name.into(),
            from: from.map(str::to_owned),
            to: to.map(str::to_owned),
        };
        let packages = PackageChanges {
            changes: vec![
                change("libc6", Some("2.36"), Some("2.41")),
                change("libfoo", None, Some("1")),
                change("old", Some("1"), None),
            ],
            kept_back: vec!["linux-image-amd64".into()],
            download: 3 << 20,
            growth: Some(-(1 << 20)),
        };
        let plan = Plan { packages: Some(packages), ..Plan::default() };
        assert_eq!(
            lines(&plan)[2..],
            [
                "Packages: 1 upgraded, 1 new, 1 removed, 1 kept back",
                "  3.00 MiB to download, then 1.00 MiB less on its disk",
                "  removed   old  1",
                "  new       libfoo  1",
                "  upgraded  libc6  2.36 -> 2.41",
                "  kept back linux-image-amd64",
                "",
                "",
            ]
        );
    }

    #[test]
    fn a_plan_has_a_line_for_each_thing() {
        let plan = Plan {
            title: "Make".into(),
            devices: vec![device()],
            steps: vec!["make".into(), "copy".into()],
            notes: vec!["wait".into()],
            ..Plan::default()
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
