//! `make bench`: what Lifeboat takes beside what others take, as ratios from one run on this
//! machine.
//!
//! Needs root for loop devices. Writes to nothing but images that it made, and
//! `docs/PERFORMANCE.md`.

mod copying;
mod figures;
mod listing;
mod loops;
mod machine;
mod menu;
mod refreshing;
mod report;
mod scale;
mod signals;
mod stopwatch;
mod sys;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use copying::root::{Disks, OTHER_TREE};
use copying::rounds;
use figures::Figure;
use report::Report;
use tests::rescue;

/// What the parts work with, and what they found.
pub struct Bench {
    report: Report,
    disks: Option<Rc<Disks>>,
}

impl Bench {
    /// Source and target with a Debian, made once.
    fn disks(&mut self) -> Result<Rc<Disks>> {
        if let Some(disks) = &self.disks {
            return Ok(Rc::clone(disks));
        }
        let disks = Rc::new(Disks::new()?);
        self.report.tree = Some(disks.tree);
        self.disks = Some(Rc::clone(&disks));
        Ok(disks)
    }
}

type Part = (&'static str, fn(&mut Bench) -> Result<()>);

const PARTS: &[Part] = &[
    ("size", size),
    ("listing", listing::measure),
    ("copying", copying::measure),
    ("refreshing", refreshing::measure),
    ("scale", scale::measure),
    ("menu", menu::measure),
];

fn main() -> ExitCode {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    match bench(&wanted) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts, prints the figures and writes the document; false if a part could not be
/// measured.
fn bench(wanted: &[String]) -> Result<bool> {
    let parts = choose(wanted)?;
    signals::watch()?;
    let report =
        Report { rounds: rounds::number(), machine: machine::describe(), ..Report::default() };
    let mut bench = Bench { report, disks: None };
    let mut complete = true;
    for (name, measure) in &parts {
        eprintln!("part {name}");
        if let Err(error) = measure(&mut bench) {
            signals::go_on()?;
            println!("{name}: not measured: {error:#}");
            complete = false;
        }
    }
    let figures = &bench.report.figures;
    println!("{:<62} {:>12}  {:>8}", "figure", "measured", "limit");
    for figure in figures {
        let (measured, allowed) = (figure.measured(), figure.allowed());
        println!("{:<62} {measured:>12}  {allowed:>8}  {}", figure.what, figure.mark());
    }
    let missed = figures.iter().filter(|figure| figure.is_missed()).count();
    println!("{missed} limits missed");
    let file = document(parts.len() == PARTS.len() && complete);
    std::fs::write(&file, report::render(&bench.report))
        .with_context(|| format!("writing {}", file.display()))?;
    println!("written: {}", file.file_name().unwrap_or_default().to_string_lossy());
    Ok(complete)
}

fn choose(wanted: &[String]) -> Result<Vec<&'static Part>> {
    if let Some(unknown) = wanted.iter().find(|word| PARTS.iter().all(|(name, _)| name != word)) {
        let names: Vec<&str> = PARTS.iter().map(|(name, _)| *name).collect();
        bail!("there is no part '{unknown}': the parts are {}", names.join(", "));
    }
    let chosen = |part: &&Part| wanted.is_empty() || wanted.iter().any(|word| word == part.0);
    Ok(PARTS.iter().filter(chosen).collect())
}

/// Where the document goes: only a whole run of the real thing is worth keeping.
fn document(whole: bool) -> PathBuf {
    if whole && std::env::var_os(OTHER_TREE).is_none() {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PERFORMANCE.md")
    } else {
        qemu::target_dir().join("PERFORMANCE.md")
    }
}

fn size(bench: &mut Bench) -> Result<()> {
    let mib = rescue::image("lifeboat.efi")?.metadata()?.len() as f64 / f64::from(1 << 20);
    let what = "size of lifeboat.efi (goal 24 MiB)".to_owned();
    bench.report.figures.push(Figure { what, value: Some(mib), unit: "MiB", limit: Some(32.0) });
    Ok(())
}
