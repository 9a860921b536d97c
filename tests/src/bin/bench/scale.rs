//! Ten thousand, a hundred thousand and a million names: the time of a copy, and the memory that it
//! and `be create` take.

use std::path::Path;

use anyhow::{Context, Result};

use crate::Bench;
use crate::figures::{Figure, median};
use crate::loops::{Loop, Mounted, drop_caches, run};
use crate::report::Scale;
use crate::signals;
use crate::stopwatch::{Names, Run, time};

const MILLION: u64 = 1_000_000;
const SIZES: &[(u64, bool)] =
    &[(10_000, false), (100_000, false), (MILLION, false), (MILLION, true)];
const DEVICE_MIB: u64 = 4096;
const MKFS: &[&str] = &["mke2fs", "-q", "-F", "-t", "ext4", "-N", "1200000"];
const DIRECTORY: u64 = 100;

pub fn measure(bench: &mut Bench) -> Result<()> {
    let be = ::tests::be_program()?;
    let rounds = bench.report.rounds;
    let directory = tempfile::tempdir_in(qemu::target_dir())?;
    let source = Loop::new(directory.path(), DEVICE_MIB)?;
    let target = Loop::new(directory.path(), DEVICE_MIB)?;
    let part = Part { be: &be, source: &source, target: &target, directory: directory.path() };
    for (names, pairs) in SIZES {
        let size = part.size(*names, *pairs, if *names < MILLION { rounds } else { 1 })?;
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
        for (who, kib) in [("copy", size.peak_kib), ("be create", size.create_peak_kib)] {
            let what = format!("memory of {who}, {shape}");
            figures.push(Figure { what, value: mebibytes(kib), unit: "MiB", limit: Some(64.0) });
        }
    }
    let each = |names| {
        let size = sizes.iter().find(|size| size.names == names && !size.pairs)?;
        size.seconds.map(|seconds| seconds / names as f64)
    };
    let growth = each(MILLION).zip(each(10_000)).map(|(large, small)| large / small);
    figures.push(Figure::ratio("time per file, a million to ten thousand", growth, 1.25));
}

struct Part<'a> {
    be: &'a Path,
    source: &'a Loop,
    target: &'a Loop,
    directory: &'a Path,
}

impl Part<'_> {
    fn size(&self, names: u64, pairs: bool, rounds: usize) -> Result<Scale> {
        eprintln!("making {names} names{}", if pairs { " in pairs" } else { "" });
        self.mkfs(self.source)?;
        let place = self.directory.join("source");
        // Nobody measures this: no flush for every journal commit.
        let root = Mounted::with(self.source.name(), &place, "nobarrier,commit=300")?;
        fill(&root.0, names, pairs)?;
        drop(root);
        let source = Mounted::with(self.source.name(), &place, "ro,noatime")?;
        let runs = (0..rounds).map(|_| self.copy()).collect::<Result<Vec<Run>>>()?;
        let created = self.create();
        drop(source);
        if let Err(error) = &created {
            signals::go_on()?;
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

    fn names(&self) -> Names {
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
        let run = time("\"$BE-engine\" copy-tree \"$SOURCE\" \"$TARGET\"", &self.names())?;
        eprintln!("  {:.2} s, {} KiB: copy", run.seconds, run.peak_kib);
        drop(target);
        Ok(run)
    }

    /// Only its memory is of interest: the target's file system is what `be` makes.
    fn create(&self) -> Result<Run> {
        run(&["wipefs", "-qa", self.target.name()])?;
        let script = "\"$BE\" create copy --from \"@$FROM\" -m \"/:$ONTO:xfs\" --no-boot-entry \
            --force --yes --quiet";
        let run = time(script, &self.names())?;
        eprintln!("  {:.2} s, {} KiB: be create", run.seconds, run.peak_kib);
        Ok(run)
    }
}

/// A root that `be` takes for a system, and in it so many names.
fn fill(root: &Path, names: u64, pairs: bool) -> Result<()> {
    for part in ["etc", "usr/lib", "boot", "data"] {
        std::fs::create_dir_all(root.join(part))?;
    }
    std::fs::copy("/etc/os-release", root.join("usr/lib/os-release"))?;
    std::os::unix::fs::symlink("../usr/lib/os-release", root.join("etc/os-release"))?;
    std::fs::write(root.join("etc/fstab"), "")?;
    let path = |n: u64| root.join(format!("data/{}/{n}", n / DIRECTORY));
    let files = if pairs { names / 2 } else { names };
    for n in 0..names {
        let path_of_n = path(n);
        if n % DIRECTORY == 0 {
            signals::go_on()?;
            std::fs::create_dir(path_of_n.parent().context("a file lies in a directory")?)?;
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
