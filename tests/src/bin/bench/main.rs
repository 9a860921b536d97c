//! `make bench`: compares Lifeboat's performance with that of other tools, as ratios measured in
//! one run on this machine.
//!
//! Needs root for loop devices. Writes only to images that it created and to `docs/PERFORMANCE.md`.

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

/// The state that the parts share: their results, and the disks.
pub struct Bench {
    report: Report,
    disks: Option<Rc<Disks>>,
}

impl Bench {
    /// The source with a Debian and the target, created on first use.
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

/// A part of the benchmark.
struct Part {
    name: &'static str,
    measure: fn(&mut Bench) -> Result<()>,
}

const fn part(name: &'static str, measure: fn(&mut Bench) -> Result<()>) -> Part {
    Part { name, measure }
}

const PARTS: &[Part] = &[
    part("size", size),
    part("listing", listing::measure),
    part("copying", copying::measure),
    part("refreshing", refreshing::measure),
    part("scale", scale::measure),
    part("menu", menu::measure),
];

fn main() -> ExitCode {
    let names: Vec<String> = std::env::args().skip(1).collect();
    match bench(&names) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the parts with these names, prints the figures and writes the document. Returns false if a
/// part could not be measured.
fn bench(names: &[String]) -> Result<bool> {
    let parts = select(names)?;
    signals::watch()?;
    let report =
        Report { rounds: rounds::number(), machine: machine::describe(), ..Report::default() };
    let mut bench = Bench { report, disks: None };
    let mut complete = true;
    for Part { name, measure } in &parts {
        eprintln!("part {name}");
        if let Err(error) = measure(&mut bench) {
            signals::check()?;
            println!("{name}: not measured: {error:#}");
            complete = false;
        }
    }
    let figures = &bench.report.figures;
    println!("{:<62} {:>12}  {:>8}", "figure", "measured", "limit");
    for figure in figures {
        let (measured, allowed) = (figure.measured(), figure.allowed());
        println!("{:<62} {measured:>12}  {allowed:>8}  {}", figure.name, figure.mark());
    }
    let missed = figures.iter().filter(|figure| figure.is_missed()).count();
    println!("{missed} limits missed");
    let file = document(parts.len() == PARTS.len() && complete);
    std::fs::write(&file, report::render(&bench.report))
        .with_context(|| format!("writing {}", file.display()))?;
    println!("written: {}", file.file_name().unwrap_or_default().to_string_lossy());
    Ok(complete)
}

/// The parts with these names, or all if there are none.
fn select(names: &[String]) -> Result<Vec<&'static Part>> {
    if let Some(unknown) = names.iter().find(|name| PARTS.iter().all(|part| part.name != **name)) {
        let known: Vec<&str> = PARTS.iter().map(|part| part.name).collect();
        bail!("unknown part '{unknown}'; the parts are {}", known.join(", "));
    }
    let is_selected =
        |part: &&Part| names.is_empty() || names.iter().any(|name| *name == part.name);
    Ok(PARTS.iter().filter(is_selected).collect())
}

/// The path of the document. Only a complete run with the real tree goes to `docs`.
fn document(whole: bool) -> PathBuf {
    if whole && std::env::var_os(OTHER_TREE).is_none() {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/PERFORMANCE.md")
    } else {
        qemu::target_dir().join("PERFORMANCE.md")
    }
}

fn size(bench: &mut Bench) -> Result<()> {
    let mib = rescue::image("lifeboat.efi")?.metadata()?.len() as f64 / f64::from(1 << 20);
    let name = "size of lifeboat.efi (goal 24 MiB)".to_owned();
    bench.report.figures.push(Figure { name, value: Some(mib), unit: "MiB", limit: Some(32.0) });
    Ok(())
}
