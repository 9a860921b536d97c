//! Copying a Debian from ext4 to ext4, xfs and btrfs, with Lifeboat and with every other tool that
//! can be installed.

pub mod peers;
pub mod root;
pub mod rounds;

use std::path::Path;

use anyhow::{Result, ensure};
use tests::programs::run;

use crate::Bench;
use crate::figures::Figure;
use crate::loops::drop_caches;
use crate::report::{Comparison, MissingTool, ToolResult};
use crate::stopwatch::{Run, Variables, time};
use peers::{Kind, Peer};
use root::Disks;
use rounds::Temperature;

/// File system types of the target, and the commands that create them.
const TARGETS: &[(&str, &[&str])] = &[
    ("ext4", &["mke2fs", "-q", "-F", "-t", "ext4"]),
    ("xfs", &["mkfs.xfs", "-q", "-f"]),
    ("btrfs", &["mkfs.btrfs", "-q", "-f"]),
];

pub fn measure(bench: &mut Bench) -> Result<()> {
    let be = ::tests::be_program()?;
    let disks = bench.disks()?;
    for (fs_type, mkfs) in TARGETS {
        eprintln!("copying to {fs_type}");
        let setup = Setup { be: &be, disks: &disks, fs_type, mkfs };
        let comparison = setup.compare(bench.report.rounds)?;
        figures(&comparison, fs_type, &mut bench.report.figures);
        bench.report.comparisons.push(comparison);
    }
    Ok(())
}

/// The figures of Lifeboat, with the limits that it must keep.
fn figures(comparison: &Comparison, fs_type: &str, figures: &mut Vec<Figure>) {
    let title = |name: &str, label: &str| format!("{name}, ext4 to {fs_type}, {label}, to cp -a");
    let limits: &[(&str, Temperature, Option<f64>)] = match fs_type {
        "ext4" => &[
            (peers::FILES, Temperature::Cold, Some(0.50)),
            (peers::FILES, Temperature::Warm, Some(0.60)),
            (peers::BLOCKS, Temperature::Cold, Some(0.35)),
            (peers::CREATE, Temperature::Cold, Some(1.0)),
            (peers::CREATE_BLOCKS, Temperature::Cold, None),
        ],
        _ => &[(peers::FILES, Temperature::Cold, None), (peers::FILES, Temperature::Warm, None)],
    };
    for (name, temperature, limit) in limits {
        let label = if *temperature == Temperature::Cold { "cold" } else { "warm" };
        let value = comparison.ratio(name, *temperature);
        figures.push(Figure { name: title(name, label), value, unit: "", limit: *limit });
    }
}

struct Setup<'a> {
    be: &'a Path,
    disks: &'a Disks,
    fs_type: &'a str,
    mkfs: &'a [&'a str],
}

impl Setup<'_> {
    fn compare(&self, rounds: usize) -> Result<Comparison> {
        let mut missing = Vec::new();
        let mut available: Vec<(&Peer, String)> = Vec::new();
        for peer in peers::peers(self.fs_type != "ext4") {
            match peer.missing() {
                Some(reason) => missing.push(MissingTool { name: peer.name.to_owned(), reason }),
                None => available.push((peer, peer.command())),
            }
        }
        missing.iter().for_each(|tool| eprintln!("  not measured: {}: {}", tool.name, tool.reason));
        let names: Vec<&str> = available.iter().map(|(peer, _)| peer.name).collect();
        let mut kept = None;
        let samples = rounds::run(&names, rounds, |tool, temperature, round| {
            let (peer, command) = &available[tool];
            match temperature {
                Temperature::Cold => kept = None,
                Temperature::Warm if kept.is_none() => {
                    let source = self.disks.keep_source()?;
                    // Read the source, so that the first tool finds the same in memory as the
                    // others.
                    time(
                        peers::READ_SOURCE,
                        &vec![("SOURCE", source.0.to_string_lossy().into_owned())],
                    )?;
                    kept = Some(source);
                }
                Temperature::Warm => {}
            }
            self.measure(peer, command, temperature, round)
        })?;
        let results = available.into_iter().zip(samples);
        Ok(Comparison {
            title: format!("Copying ext4 to {}", self.fs_type),
            description: self.description(),
            baseline: peers::BASELINE.into(),
            results: results
                .map(|((peer, command), samples)| ToolResult {
                    name: peer.name.into(),
                    command,
                    samples,
                })
                .collect(),
            missing,
        })
    }

    fn description(&self) -> String {
        let mkfs = format!("The target is created with `{} DEVICE`.", self.mkfs.join(" "));
        match self.fs_type {
            "ext4" => mkfs,
            other => format!(
                "{mkfs} `be create` also rebuilds the initramfs of the copy, because it has to \
                mount {other} and the initramfs of the source contains only the fsck of ext4."
            ),
        }
    }

    fn measure(
        &self,
        peer: &Peer,
        command: &str,
        temperature: Temperature,
        round: usize,
    ) -> Result<Option<Run>> {
        let cold = temperature == Temperature::Cold;
        if !cold && !peer.kind.can_be_warm() {
            return Ok(None);
        }
        let disks = self.disks;
        let source = peer.kind.mounts_source().then(|| disks.mount_source()).transpose()?;
        if peer.kind == Kind::Verb || peer.kind == Kind::VerbOnBlocks {
            run(&["wipefs", "-qa", disks.target.name()])?;
        } else {
            disks.fresh_target(self.mkfs)?;
        }
        let target = (peer.kind == Kind::Files).then(|| disks.mount_target()).transpose()?;
        match &source {
            Some(source) if !cold => read_all(&source.0.to_string_lossy())?,
            _ => {}
        }
        if cold {
            drop_caches(&[&disks.source, &disks.target])?;
        } else {
            run(&["sync"])?;
        }
        let run = time(command, &variables(self.be, disks, self.fs_type))?;
        if let (true, true, Some(from), Some(to)) =
            (round == 0, peer.name == peers::FILES, &source, &target)
        {
            check_equal(&from.0.to_string_lossy(), &to.0.to_string_lossy())?;
        }
        drop((source, target));
        let _ = std::fs::remove_file(disks.directory().join("archive.fsa"));
        Ok(Some(run))
    }
}

/// The environment variables of the commands.
pub fn variables(be: &Path, disks: &Disks, fs_type: &str) -> Variables {
    let directory = |name: &str| disks.directory().join(name).to_string_lossy().into_owned();
    vec![
        ("SOURCE", directory("source")),
        ("TARGET", directory("target")),
        ("SOURCE_DEVICE", disks.source.name().to_owned()),
        ("TARGET_DEVICE", disks.target.name().to_owned()),
        ("WORK", disks.directory().to_string_lossy().into_owned()),
        ("USED", disks.tree.bytes.div_ceil(1 << 20).to_string()),
        ("FSTYPE", fs_type.to_owned()),
        ("BE", be.to_string_lossy().into_owned()),
    ]
}

/// Reads a whole tree.
pub fn read_all(tree: &str) -> Result<()> {
    let script = "find \"$TREE\" -links +64000; find \"$TREE\" -type f -exec cat {} + >/dev/null";
    time(script, &vec![("TREE", tree.to_owned())]).map(drop)
}

/// Checks with rsync that two trees are equal, except for lost+found, which mkfs creates.
pub fn check_equal(source: &str, target: &str) -> Result<()> {
    let [source, target] = [source, target].map(|directory| format!("{directory}/"));
    // XFS also lists ACLs as extended attributes.
    let ignored = ["--exclude=/lost+found", "--filter=-x trusted.SGI_ACL_*"];
    let found =
        run(&[&["rsync", "-aHAXSni", "--delete"], &ignored[..], &[&source, &target]].concat())?;
    ensure!(
        found.is_empty(),
        "rsync finds differences: {}",
        found.lines().take(3).collect::<Vec<_>>().join("; ")
    );
    Ok(())
}
