//! Copying a Debian from ext4 to ext4, xfs and btrfs, by every tool that can be installed and by
//! Lifeboat.

pub mod peers;
pub mod root;
pub mod rounds;

use std::path::Path;

use anyhow::{Result, ensure};

use crate::Bench;
use crate::figures::Figure;
use crate::loops::{drop_caches, run};
use crate::report::{Contest, Contestant};
use crate::stopwatch::{Names, Run, time};
use peers::{Kind, Peer};
use root::Disks;
use rounds::Temperature;

/// A type, and what makes the target; to begin with the source's own.
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
        let race = Race { be: &be, disks: &disks, fs_type, mkfs };
        let contest = race.run(bench.report.rounds)?;
        figures(&contest, fs_type, &mut bench.report.figures);
        bench.report.contests.push(contest);
    }
    Ok(())
}

/// What the issue of this benchmark asks of Lifeboat.
fn figures(contest: &Contest, fs_type: &str, figures: &mut Vec<Figure>) {
    let what = |name: &str, how: &str| format!("{name}, ext4 to {fs_type}, {how}, to cp -a");
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
        let how = if *temperature == Temperature::Cold { "cold" } else { "warm" };
        let value = contest.ratio(name, *temperature);
        figures.push(Figure { what: what(name, how), value, unit: "", limit: *limit });
    }
}

struct Race<'a> {
    be: &'a Path,
    disks: &'a Disks,
    fs_type: &'a str,
    mkfs: &'a [&'a str],
}

impl Race<'_> {
    fn run(&self, rounds: usize) -> Result<Contest> {
        let mut missing = Vec::new();
        let mut racing: Vec<(&Peer, String)> = Vec::new();
        for peer in peers::peers(self.fs_type != "ext4") {
            match peer.missing() {
                Some(why) => missing.push((peer.name.to_owned(), why)),
                None => racing.push((peer, peer.command())),
            }
        }
        missing.iter().for_each(|(name, why)| eprintln!("  not measured: {name}: {why}"));
        let names: Vec<&str> = racing.iter().map(|(peer, _)| peer.name).collect();
        let mut kept = None;
        let samples = rounds::run(&names, rounds, |who, temperature, round| {
            let (peer, command) = &racing[who];
            match temperature {
                Temperature::Cold => kept = None,
                Temperature::Warm if kept.is_none() => {
                    let source = self.disks.keep_source()?;
                    // The first of the warm contestants finds in memory what the others find.
                    time(
                        peers::READING,
                        &vec![("SOURCE", source.0.to_string_lossy().into_owned())],
                    )?;
                    kept = Some(source);
                }
                Temperature::Warm => {}
            }
            self.once(peer, command, temperature, round)
        })?;
        let contestants = racing.into_iter().zip(samples);
        Ok(Contest {
            title: format!("Copying ext4 to {}", self.fs_type),
            about: self.about(),
            baseline: peers::BASELINE.into(),
            contestants: contestants
                .map(|((peer, command), samples)| Contestant {
                    name: peer.name.into(),
                    command,
                    samples,
                })
                .collect(),
            missing,
        })
    }

    fn about(&self) -> String {
        let made = format!("The target is made by `{} DEVICE`.", self.mkfs.join(" "));
        match self.fs_type {
            "ext4" => made,
            other => format!(
                "{made} `be create` makes the initramfs of the copy anew, too: it mounts {other} \
                now, and the source's \
                 has only the fsck of ext4."
            ),
        }
    }

    fn once(
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
        let measured = time(command, &names(self.be, disks, self.fs_type))?;
        if let (true, true, Some(from), Some(to)) =
            (round == 0, peer.name == peers::FILES, &source, &target)
        {
            agree(&from.0.to_string_lossy(), &to.0.to_string_lossy())?;
        }
        drop((source, target));
        let _ = std::fs::remove_file(disks.directory().join("archive.fsa"));
        Ok(Some(measured))
    }
}

/// What the commands call things.
pub fn names(be: &Path, disks: &Disks, fs_type: &str) -> Names {
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

/// rsync finds no difference between two trees but in the times of what mkfs made.
pub fn agree(source: &str, target: &str) -> Result<()> {
    let [source, target] = [source, target].map(|directory| format!("{directory}/"));
    // XFS shows ACLs a second time, as attributes.
    let but = ["--exclude=/lost+found", "--filter=-x trusted.SGI_ACL_*"];
    let found = run(&[&["rsync", "-aHAXSni", "--delete"], &but[..], &[&source, &target]].concat())?;
    ensure!(
        found.is_empty(),
        "rsync finds differences: {}",
        found.lines().take(3).collect::<Vec<_>>().join("; ")
    );
    Ok(())
}
