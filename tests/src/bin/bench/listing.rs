//! `be list` with 32 partitions on 4 disks, and a system on each.

use std::time::Instant;

use anyhow::{Result, ensure};
use tests::be_program;
use tests::programs::run;

use crate::Bench;
use crate::figures::{Figure, median};
use crate::loops::{Loop, Mounted};

const DISKS: usize = 4;
const PARTITIONS: usize = 8;

pub fn measure(bench: &mut Bench) -> Result<()> {
    let directory = tempfile::tempdir_in(qemu::target_dir())?;
    let mut disks = Vec::new();
    for _ in 0..DISKS {
        disks.push(disk(directory.path())?);
    }
    let be = be_program()?;
    let be = be.to_string_lossy();
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let start = Instant::now();
        let text = run(&[&be, "list", "--json"])?;
        seconds.push(start.elapsed().as_secs_f64());
        let found = text.matches("\"reference\"").count();
        ensure!(
            found >= DISKS * PARTITIONS,
            "be list found {found} of {} systems",
            DISKS * PARTITIONS
        );
    }
    let name = "be list, 32 systems on 32 partitions of 4 disks".to_owned();
    bench.report.figures.push(Figure { name, value: median(seconds), unit: "s", limit: Some(1.0) });
    Ok(())
}

fn disk(directory: &std::path::Path) -> Result<Loop> {
    let disk = Loop::new(directory, 40 * PARTITIONS as u64 + 8)?;
    let mut sgdisk = vec!["sgdisk"];
    sgdisk.extend(["-n0:0:+40M"; PARTITIONS]);
    sgdisk.push(disk.name());
    run(&sgdisk)?;
    run(&["partx", "-a", disk.name()])?;
    for number in 1..=PARTITIONS {
        let node = format!("{}p{number}", disk.name());
        run(&["mke2fs", "-q", "-t", "ext4", &node])?;
        let mounted = Mounted::new(&node, &directory.join("mnt"))?;
        let root = &mounted.0;
        for part in ["etc", "usr/lib", "boot"] {
            std::fs::create_dir_all(root.join(part))?;
        }
        std::fs::copy("/etc/os-release", root.join("usr/lib/os-release"))?;
        std::os::unix::fs::symlink("../usr/lib/os-release", root.join("etc/os-release"))?;
        std::fs::write(root.join("etc/fstab"), "")?;
    }
    Ok(disk)
}
