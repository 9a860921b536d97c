//! Refreshing an existing copy, ext4 to ext4, with nothing changed and with one file in a hundred
//! changed.

use std::fs::{File, FileTimes};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use tests::programs::run;

use crate::Bench;
use crate::copying::root::Disks;
use crate::copying::rounds::{self, Temperature};
use crate::copying::{check_equal, read_all, variables};
use crate::figures::Figure;
use crate::loops::drop_caches;
use crate::report::{Comparison, ToolResult};
use crate::stopwatch::time;

const BASELINE: &str = "rsync -aHAXS --delete";
const LIFEBOAT: &str = "Lifeboat, refresh";
const SYNC: &str = "; sync -f \"$TARGET\"";
const MKFS: &[&str] = &["mke2fs", "-q", "-F", "-t", "ext4"];

const TOOLS: &[(&str, &str)] = &[
    (
        "find in both trees at once: only the walk",
        "find \"$SOURCE\" -links +64000 & find \"$TARGET\" -links +64000; wait $!",
    ),
    (BASELINE, "rsync -aHAXS --numeric-ids --delete \"$SOURCE/\" \"$TARGET/\""),
    ("cp -au", "cp -au \"$SOURCE/.\" \"$TARGET\""),
    (LIFEBOAT, "\"$BE-engine\" refresh-tree \"$SOURCE\" \"$TARGET\""),
];

pub fn measure(bench: &mut Bench) -> Result<()> {
    let be = ::tests::be_program()?;
    let disks = bench.disks()?;
    disks.fresh_target(MKFS)?;
    let source = disks.mount_source()?;
    let target = disks.mount_target()?;
    let [from, to] =
        [&source.0, &target.0].map(|directory| directory.to_string_lossy().into_owned());
    let variables = variables(&be, &disks, "ext4");
    time("\"$BE-engine\" copy-tree \"$SOURCE\" \"$TARGET\"", &variables)
        .context("creating the copy")?;
    synchronize(&from, &to)?;
    let labels: Vec<&str> = TOOLS.iter().map(|(name, _)| *name).collect();
    for changed in [false, true] {
        eprintln!("refreshing, {}", state(changed));
        let samples = rounds::run(&labels, bench.report.rounds, |tool, temperature, round| {
            if changed {
                synchronize(&from, &to)?;
                change_one_in_a_hundred(&target.0)?;
            }
            prepare(&disks, &from, &to, temperature)?;
            let (name, script) = TOOLS[tool];
            let run = time(&format!("{script}{SYNC}"), &variables)?;
            if round == 0 && name == LIFEBOAT {
                check_equal(&from, &to)?;
            }
            Ok(Some(run))
        })?;
        let comparison = comparison(changed, samples);
        figures(&comparison, changed, &mut bench.report.figures);
        bench.report.comparisons.push(comparison);
    }
    Ok(())
}

fn state(changed: bool) -> &'static str {
    if changed { "1 % of the files changed" } else { "nothing changed" }
}

/// Makes the two trees identical with rsync.
fn synchronize(from: &str, to: &str) -> Result<()> {
    let [from, to] = [from, to].map(|directory| format!("{directory}/"));
    run(&["rsync", "-aHAXS", "--numeric-ids", "--delete", &from, &to]).map(drop)
}

fn prepare(disks: &Disks, from: &str, to: &str, temperature: Temperature) -> Result<()> {
    match temperature {
        Temperature::Cold => drop_caches(&[&disks.source, &disks.target]),
        Temperature::Warm => {
            read_all(from)?;
            run(&["find", to, "-links", "+64000"])?;
            run(&["sync"]).map(drop)
        }
    }
}

fn comparison(changed: bool, samples: Vec<rounds::Samples>) -> Comparison {
    let description = if changed {
        "Before each run, one regular file in a hundred gets another first byte and an older time \
        in the target."
    } else {
        "The target is an identical copy."
    };
    let results = TOOLS.iter().zip(samples);
    Comparison {
        title: format!("Refreshing ext4 from ext4, {}", state(changed)),
        description: description.into(),
        baseline: BASELINE.into(),
        results: results
            .map(|((name, script), samples)| ToolResult {
                name: (*name).into(),
                command: format!("{script}{SYNC}"),
                samples,
            })
            .collect(),
        missing: Vec::new(),
    }
}

fn figures(comparison: &Comparison, changed: bool, figures: &mut Vec<Figure>) {
    let limits = if changed { [0.7, 0.7] } else { [0.65, 0.40] };
    for (label, temperature, limit) in
        [("cold", Temperature::Cold, limits[0]), ("warm", Temperature::Warm, limits[1])]
    {
        let name = format!("{LIFEBOAT}, {}, {label}, to rsync", state(changed));
        figures.push(Figure::ratio(name, comparison.ratio(LIFEBOAT, temperature), limit));
    }
}

/// Changes one regular file in a hundred in the target: its first byte, and to an older time.
fn change_one_in_a_hundred(target: &Path) -> Result<()> {
    let found =
        run(&["find", &target.to_string_lossy(), "-type", "f", "-size", "+0", "-links", "1"])?;
    let mut paths: Vec<&str> = found.lines().collect();
    paths.sort_unstable();
    for path in paths.into_iter().step_by(100) {
        let file = File::options()
            .read(true)
            .write(true)
            .open(path)
            .with_context(|| format!("opening {path}"))?;
        let modified = file.metadata()?.modified()?;
        let mut first = [0];
        file.read_exact_at(&mut first, 0)?;
        file.write_all_at(&[!first[0]], 0)?;
        file.set_times(FileTimes::new().set_modified(modified - Duration::from_secs(3600)))?;
    }
    Ok(())
}
