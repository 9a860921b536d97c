//! Runs scenarios on each release and prints a table of scenario × release.

use qemu::Release;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A statement that is tested on a release.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// The statement, which is the name of the function.
    pub name: &'static str,
    /// The test. It fails with an error or a panic.
    pub run: fn(Release) -> anyhow::Result<()>,
    /// The release that it is about; all if there is none.
    pub only: Option<Release>,
}

/// Makes a scenario of a function, under the function's name. With a release, it is about that one.
#[macro_export]
macro_rules! scenario {
    ($function:path) => {
        $crate::table::Scenario { name: stringify!($function), run: $function, only: None }
    };
    ($function:path, $release:expr) => {
        $crate::table::Scenario { only: Some($release), ..$crate::scenario!($function) }
    };
}

/// The options of the command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// Scenarios whose name contains one of these words are run; all, if there are no words.
    words: Vec<String>,
    releases: Vec<Release>,
    list: bool,
}

impl Options {
    /// Parses `[WORD…] [--release NAME]… [--list]`. Other options are ignored, because they are for
    /// Rust's own test runner.
    fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--release" => {
                    let name = arguments.next().unwrap_or_default();
                    let release = Release::ALL.into_iter().find(|r| r.name() == name);
                    options.releases.push(
                        release
                            .ok_or(format!("unknown release {name:?}: use bookworm or trixie"))?,
                    );
                }
                "--list" => options.list = true,
                _ if argument.starts_with('-') => {}
                _ => options.words.push(argument),
            }
        }
        if options.releases.is_empty() {
            options.releases = Release::ALL.to_vec();
        }
        Ok(options)
    }

    fn selects(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }
}

/// The outcome of a scenario on a release.
struct Outcome {
    failure: Option<String>,
    duration: Duration,
}

impl Outcome {
    fn text(&self) -> String {
        match &self.failure {
            None => format!("ok, {} s", self.duration.as_secs()),
            Some(reason) => format!("FAILED\n{reason}\n"),
        }
    }
}

/// Runs the selected scenarios and prints the table. Fails if a scenario failed or none was run.
pub fn main(scenarios: &[Scenario]) -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let selected: Vec<&Scenario> =
        scenarios.iter().filter(|scenario| options.selects(scenario.name)).collect();
    if options.list {
        selected.iter().for_each(|scenario| println!("{}", scenario.name));
        return ExitCode::SUCCESS;
    }
    let outcomes = run_all(&selected, &options.releases);
    let failed = outcomes.values().filter(|outcome| outcome.failure.is_some()).count();
    let names: Vec<&str> = selected.iter().map(|scenario| scenario.name).collect();
    print!("\n{}", render(&names, &options.releases, |row, column| outcomes.get(&(row, column))));
    println!("\n{} passed, {failed} failed", outcomes.len() - failed);
    if failed > 0 || outcomes.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs every scenario on every release, as many at a time as machines are allowed. Returns the
/// outcomes by row and column of the table.
fn run_all(selected: &[&Scenario], releases: &[Release]) -> BTreeMap<(usize, usize), Outcome> {
    let columns = || releases.iter().enumerate();
    let cells = selected
        .iter()
        .enumerate()
        .flat_map(|(row, s)| columns().map(move |(c, r)| ((row, c), *s, *r)))
        .filter(|(_, scenario, release)| scenario.only.is_none_or(|only| only == *release));
    let waiting = Mutex::new(cells);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
    let outcomes = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..qemu::machines_at_once() {
            scope.spawn(|| {
                while let Some((cell, scenario, release)) = next() {
                    println!("scenario {} on {release} ...", scenario.name);
                    let outcome = run(scenario, release);
                    println!("scenario {} on {release}: {}", scenario.name, outcome.text());
                    outcomes.lock().unwrap_or_else(PoisonError::into_inner).insert(cell, outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn run(scenario: &Scenario, release: Release) -> Outcome {
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(release)));
    let failure = match result {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        // The panic handler has already printed the location of the panic.
        Err(panic) => Some(
            panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
                .unwrap_or_else(|| "panicked".to_owned()),
        ),
    };
    Outcome { failure, duration: start.elapsed() }
}

/// Renders the table, one line per scenario.
fn render<'a>(
    names: &[&str],
    releases: &[Release],
    outcome: impl Fn(usize, usize) -> Option<&'a Outcome>,
) -> String {
    let width =
        names.iter().map(|name| name.len()).chain(["scenario".len()]).max().unwrap_or_default();
    let line = |first: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("  {cell:<12}")).collect();
        format!("{first:<width$}{cells}").trim_end().to_owned() + "\n"
    };
    let mut table = line("scenario", releases.iter().map(ToString::to_string).collect());
    for (row, name) in names.iter().enumerate() {
        let cell = |column| match outcome(row, column) {
            Some(Outcome { failure: None, duration }) => format!("ok {} s", duration.as_secs()),
            Some(Outcome { failure: Some(_), .. }) => "FAILED".to_owned(),
            None => "-".to_owned(),
        };
        table += &line(&name.replace('_', " "), (0..releases.len()).map(cell).collect());
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, String> {
        Options::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_command_line_selects_scenarios_and_releases() {
        assert_eq!(parse("--all --nocapture").unwrap().releases, Release::ALL);
        let options = parse("trial --release trixie").unwrap();
        assert_eq!(options.releases, [Release::Trixie]);
        assert!(
            options.selects("a_trial_that_panics_falls_back")
                && !options.selects("create_and_switch")
        );
        assert!(parse("--release sid").unwrap_err().contains("sid"));
    }

    #[test]
    fn a_scenario_fails_with_an_error_or_a_panic() {
        fn good(_: Release) -> anyhow::Result<()> {
            Ok(())
        }
        fn bad(_: Release) -> anyhow::Result<()> {
            anyhow::bail!("no GRUB")
        }
        fn worse(_: Release) -> anyhow::Result<()> {
            assert_eq!("first", "second");
            Ok(())
        }
        let outcome = |scenario: Scenario| run(&scenario, Release::Bookworm).failure;
        assert_eq!(outcome(scenario!(good)), None);
        assert_eq!(outcome(scenario!(bad)).unwrap(), "no GRUB");
        assert!(outcome(scenario!(worse)).unwrap().contains("second"));
    }

    #[test]
    fn the_table_has_one_line_per_scenario() {
        let ok = Outcome { failure: None, duration: Duration::from_secs(73) };
        let failed = Outcome { failure: Some("x".to_owned()), duration: Duration::ZERO };
        let cells = [[Some(&ok), Some(&failed)], [None, Some(&ok)]];
        let table = render(&["create_and_switch", "refusals"], &Release::ALL, |row, column| {
            cells[row][column]
        });
        assert_eq!(
            table,
            "scenario           bookworm      trixie\n\
             create and switch  ok 73 s       FAILED\n\
             refusals           -             ok 73 s\n"
        );
    }
}
