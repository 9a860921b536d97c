//! `fuzz-all PROGRAM [SECONDS=60] [RUNS=number] [TARGET=word]`: runs each target whose name contains
//! the word under libFuzzer, for so many seconds or runs, and prints a table. PROGRAM is
//! `fuzz-target`. `make fuzz` calls it.
//!
//! What libFuzzer finds stays in `target/fuzz/corpus`, so that the next run begins there. An input
//! on which a target failed is in `target/fuzz/crashes`.

use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, bail};
use fuzz::{FAILING, MAX_BYTES, TARGET_VARIABLE, TARGETS, Target};

/// Seconds after which libFuzzer ends an input that does not end by itself. It goes by the clock on
/// the wall, which also runs while a virtual machine is paused; one that takes long is found by
/// the time that it ran (`fuzz::MAX_TIME`).
const ENDLESS: u64 = 300;

fn main() -> Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let program = arguments.next().context("the first argument is the program fuzz-target")?;
    let wanted = Wanted::parse(arguments)?;
    let chosen: Vec<&Target> = TARGETS.iter().filter(|t| t.name.contains(&wanted.word)).collect();
    if chosen.is_empty() {
        let all: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
        bail!("no target's name contains {:?}; there are {}", wanted.word, all.join(", "));
    }
    let directories = Directories::new(program.into())?;
    directories.prove_that_failures_are_noticed()?;
    println!("{Heading}");
    let mut failed = false;
    for target in chosen {
        let outcome = directories.run(target, &wanted)?;
        println!("{outcome}");
        for crash in &outcome.crashes {
            println!("  {}", crash.display());
        }
        std::io::stdout().flush()?;
        failed |= outcome.has_failed();
    }
    if failed {
        println!(
            "\nA crash becomes a case: copy it to fuzz/corpus/TARGET/, named after what it shows.\n\
            What libFuzzer printed is in {}.",
            directories.logs.display()
        );
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What the arguments ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    /// Limits for each target; at least one is set.
    seconds: Option<u64>,
    runs: Option<u64>,
    /// The word in the names of the targets.
    word: String,
}

impl Wanted {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self> {
        let mut wanted = Wanted::default();
        for argument in arguments {
            let number = |text: &str| text.parse().with_context(|| argument.clone());
            match argument.split_once('=') {
                Some(("SECONDS", value)) => wanted.seconds = Some(number(value)?),
                Some(("RUNS", value)) => wanted.runs = Some(number(value)?),
                Some(("TARGET", word)) => wanted.word = word.to_owned(),
                _ => bail!("{argument:?} is none of SECONDS=, RUNS= and TARGET="),
            }
        }
        if wanted.runs.is_none() {
            wanted.seconds = wanted.seconds.or(Some(60));
        }
        Ok(wanted)
    }
}

struct Directories {
    /// The captured inputs, which are in the repository.
    captured: PathBuf,
    found: PathBuf,
    crashes: PathBuf,
    logs: PathBuf,
    program: PathBuf,
}

struct Heading;

/// What a run of a target came to.
struct Outcome {
    target: &'static str,
    /// `None` if libFuzzer printed no statistics, because it was killed.
    statistics: Option<Statistics>,
    succeeded: bool,
    crashes: Vec<PathBuf>,
}

struct Statistics {
    runs: u64,
    runs_per_second: u64,
    peak_mebibytes: u64,
}

impl Directories {
    fn new(program: PathBuf) -> Result<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let work = here.with_file_name("target/fuzz");
        let directories = Directories {
            captured: here.join("corpus"),
            found: work.join("corpus"),
            crashes: work.join("crashes"),
            logs: work.join("logs"),
            program,
        };
        for directory in [&directories.crashes, &directories.logs] {
            fs::create_dir_all(directory)?;
        }
        Ok(directories)
    }

    /// Runs the targets that always fail.
    fn prove_that_failures_are_noticed(&self) -> Result<()> {
        for target in FAILING {
            let wanted = Wanted { seconds: Some(5), ..Wanted::default() };
            let outcome = self.run(target, &wanted)?;
            if outcome.crashes.is_empty() {
                bail!("{} did not fail: see {}", target.name, self.logs.display());
            }
            fs::remove_dir_all(self.crashes.join(target.name))?;
        }
        Ok(())
    }

    fn run(&self, target: &'static Target, wanted: &Wanted) -> Result<Outcome> {
        let found = self.found.join(target.name);
        let crashes = self.crashes.join(target.name);
        for directory in [&found, &crashes] {
            fs::create_dir_all(directory)?;
        }
        let before = files(&crashes)?;
        let log = self.logs.join(target.name);
        let output = fs::File::create(&log)?;
        let inputs = [found, self.captured.join(target.name)];
        let status = Command::new(&self.program)
            .env(TARGET_VARIABLE, target.name)
            .args(wanted.seconds.map(|seconds| format!("-max_total_time={seconds}")))
            .args(wanted.runs.map(|runs| format!("-runs={runs}")))
            .arg(format!("-max_len={}", target.longest))
            .arg(format!("-timeout={ENDLESS}"))
            .arg(format!("-report_slow_units={ENDLESS}"))
            .arg(format!("-rss_limit_mb={}", 16 * (MAX_BYTES >> 20)))
            .arg(format!("-artifact_prefix={}/", crashes.display()))
            .arg("-print_final_stats=1")
            .args(inputs.iter().filter(|directory| directory.is_dir()))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .with_context(|| format!("starting {}", self.program.display()))?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let crashes = files(&crashes)?.into_iter().filter(|file| !before.contains(file)).collect();
        let statistics = Statistics::parse(&text);
        Ok(Outcome { target: target.name, statistics, succeeded: status.success(), crashes })
    }
}

impl Outcome {
    fn has_failed(&self) -> bool {
        !self.succeeded || !self.crashes.is_empty()
    }
}

impl Statistics {
    /// Parses libFuzzer's last lines.
    fn parse(log: &str) -> Option<Self> {
        let number = |name: &str| {
            let line =
                log.lines().rev().find_map(|line| line.strip_prefix("stat::")?.strip_prefix(name));
            line?.trim_start_matches(':').trim().parse().ok()
        };
        Some(Statistics {
            runs: number("number_of_executed_units")?,
            runs_per_second: number("average_exec_per_sec")?,
            peak_mebibytes: number("peak_rss_mb")?,
        })
    }
}

impl fmt::Display for Heading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:22} {:>12} {:>9} {:>8} {:>12}",
            "target", "runs", "runs/s", "crashes", "peak memory"
        )
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let crashes = self.crashes.len();
        match &self.statistics {
            Some(Statistics { runs, runs_per_second, peak_mebibytes }) => write!(
                f,
                "{:22} {runs:>12} {runs_per_second:>9} {crashes:>8} {peak_mebibytes:>8} MiB",
                self.target
            ),
            None => write!(f, "{:22} {:>12} {:>9} {crashes:>8}", self.target, "ended", ""),
        }
    }
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        files.push(entry?.path());
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_has_a_limit() {
        let parse = |line: &str| Wanted::parse(line.split_whitespace().map(str::to_owned));
        let wanted = |seconds, runs, word: &str| Wanted { seconds, runs, word: word.into() };
        for (line, expected) in [
            ("", wanted(Some(60), None, "")),
            ("SECONDS=5 TARGET=efi", wanted(Some(5), None, "efi")),
            ("RUNS=10", wanted(None, Some(10), "")),
            ("RUNS=10 SECONDS=5", wanted(Some(5), Some(10), "")),
        ] {
            assert_eq!(parse(line).unwrap(), expected, "{line}");
        }
        assert!(parse("SECONDS=many").is_err() && parse("efi").is_err());
    }

    #[test]
    fn the_statistics_of_libfuzzer_are_read() {
        let log = "Done 1048576 runs in 11 second(s)\nstat::number_of_executed_units: 1048576\n\
            stat::average_exec_per_sec:     95325\nstat::new_units_added:          12\n\
            stat::slowest_unit_time_sec:    0\nstat::peak_rss_mb:              431\n";
        let found = Statistics::parse(log).unwrap();
        assert_eq!(
            (found.runs, found.runs_per_second, found.peak_mebibytes),
            (1048576, 95325, 431)
        );
        assert!(Statistics::parse("killed").is_none());
    }
}
