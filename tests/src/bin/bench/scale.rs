//! Trees of ten thousand, a hundred thousand and a million names: the time and memory of a copy,
//! and the memory of `be create`.

use std::path::Path;

use anyhow::{Context, Result};
use tests::programs::run;

use crate::Bench;
use crate::figures::{Figure, median};
use crate::loops::{Loop, Mounted, drop_caches};
use crate::report::Scale;
use crate::signals;
use crate::stopwatch::{Run, Variables, time};

const MILLION: u64 = 1_000_000;
/// Numbers of names, and whether each file has two of them.
const SIZES: &[(u64, bool)] =
    &[(10_000, false), (100_000, false), (MILLION, false), (MILLION, true)];
const DEVICE_MIB: u64 = 4096;
const MKFS: &[&str] = &["mke2fs", "-q", "-F", "-t", "ext4", "-N", "1200000"];
const NAMES_PER_DIRECTORY: u64 = 100;

pub fn measure(bench: &mut Bench) -> Result<()> {
    let be = ::tests::be_program()?;
    let rounds = bench.report.rounds;
    let directory = tempfile::tempdir_in(qemu::target_dir())?;
    let source = Loop::new(directory.path(), DEVICE_MIB)?;
    let target = Loop::new(directory.path(), DEVICE_MIB)?;
    let setup = Setup { be: &be, source: &source, target: &target, directory: directory.path() };
    for (names, pairs) in SIZES {
        let size = setup.measure(*names, *pairs, if *names < MILLION { rounds } else { 1 })?;
        bench.report.scale.push(size);
    }
    figures(&bench.report.scale, &mut bench.report.figures);
    Ok(())
}

fn figures(sizes: &[Scale], figures: &mut Vec<Figure>) {
    let mebibytes = |kib: Option<u64>| kib.map(|kib| kib as f64 / 1024.0);
    for size in sizes.iter().filter(|size| size.names == MILLION) {
        let shape =
            if size.pairs { "a million names in hard-linked pairs" } else { "a million files" };
        for (tool, kib) in [("copy", size.peak_kib), ("be create", size.create_peak_kib)] {
            let name = format!("memory of {tool}, {shape}");
            figures.push(Figure { name, value: mebibytes(kib), unit: "MiB", limit: Some(64.0) });
        }
    }
    let time_per_name = |names| {
        let size = sizes.iter().find(|size| size.names == names && !size.pairs)?;
        size.seconds.map(|seconds| seconds / names as f64)
    };
    let growth =
        time_per_name(MILLION).zip(time_per_name(10_000)).map(|(large, small)| large / small);
    figures.push(Figure::ratio("time per file, a million to ten thousand", growth, 1.25));
}

struct Setup<'a> {
    be: &'a Path,
    source: &'a Loop,
    target: &'a Loop,
    directory: &'a Path,
}

impl Setup<'_> {
    fn measure(&self, names: u64, pairs: bool, rounds: usize) -> Result<Scale> {
        eprintln!("making {names} names{}", if pairs { " in pairs" } else { "" });
        self.mkfs(self.source)?;
        let mount_point = self.directory.join("source");
        // This is not measured, so it needs no flush for every journal commit.
        let root = Mounted::with(self.source.name(), &mount_point, "nobarrier,commit=300")?;
        fill(&root.0, names, pairs)?;
        drop(root);
        let source = Mounted::with(self.source.name(), &mount_point, "ro,noatime")?;
        let runs = (0..rounds).map(|_| self.copy()).collect::<Result<Vec<Run>>>()?;
        let created = self.create();
        drop(source);
        if let Err(error) = &created {
            signals::check()?;
            eprintln!("  be create: {error:#}");
        }
        Ok(Scale {
            names,
            pairs,
            seconds: median(runs.iter().map(|run| run.seconds).collect()),
            peak_kib: runs.iter().map(|run| run.peak_kib).max(),
            create_peak_kib: created.ok().map(|run| run.peak_kib),
        })
    }

    fn mkfs(&self, device: &Loop) -> Result<()> {
        run(&["wipefs", "-qa", device.name()])?;
        run(&[MKFS, &[device.name()]].concat()).map(drop)
    }

    fn variables(&self) -> Variables {
        let directory = |name: &str| self.directory.join(name).to_string_lossy().into_owned();
        vec![
            ("SOURCE", directory("source")),
            ("TARGET", directory("target")),
            ("FROM", self.source.short().to_owned()),
            ("ONTO", self.target.name().to_owned()),
            ("BE", self.be.to_string_lossy().into_owned()),
        ]
    }

    fn copy(&self) -> Result<Run> {
        self.mkfs(self.target)?;
        let target = Mounted::new(self.target.name(), &self.directory.join("target"))?;
        drop_caches(&[self.source, self.target])?;
        let run = time("\"$BE-engine\" copy-tree \"$SOURCE\" \"$TARGET\"", &self.variables())?;
        eprintln!("  {:.2} s, {} KiB: copy", run.seconds, run.peak_kib);
        drop(target);
        Ok(run)
    }

    /// Runs `be create`, of which only the memory matters: `be` itself creates the target's file
    /// system.
    fn create(&self) -> Result<Run> {
        run(&["wipefs", "-qa", self.target.name()])?;
        let script = "\"$BE\" create copy --from \"@$FROM\" -m \"/:$ONTO:xfs\" --no-boot-entry \
            --force --yes --quiet";
        let run = time(script, &self.variables())?;
        eprintln!("  {:.2} s, {} KiB: be create", run.seconds, run.peak_kib);
        Ok(run)
    }
}

/// Creates a root that `be` recognises as a system, with this many names in it.
fn fill(root: &Path, names: u64, pairs: bool) -> Result<()> {
    for part in ["etc", "usr/lib", "boot", "data"] {
        std::fs::create_dir_all(root.join(part))?;
    }
    std::fs::copy("/etc/os-release", root.join("usr/lib/os-release"))?;
    std::os::unix::fs::symlink("../usr/lib/os-release", root.join("etc/os-release"))?;
    std::fs::write(root.join("etc/fstab"), "")?;
    let path = |n: u64| root.join(format!("data/{}/{n}", n / NAMES_PER_DIRECTORY));
    let files = if pairs { names / 2 } else { names };
    for n in 0..names {
        let path_of_n = path(n);
        if n % NAMES_PER_DIRECTORY == 0 {
            signals::check()?;
            std::fs::create_dir(path_of_n.parent().context("every file is in a directory")?)?;
        }
        if n >= files {
            std::fs::hard_link(path(n - files), &path_of_n)?;
        } else {
            let line = if n % 10 == 0 { format!("this is file {n}\n") } else { String::new() };
            std::fs::write(&path_of_n, line)?;
        }
    }
    Ok(())
}
