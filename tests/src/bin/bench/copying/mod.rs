//! `be create` by file copy against `cp -a`: ext4 to ext4, cold caches, a real Debian of more than 40,000 files.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use qemu::{Debian, Release};
use tests::be_program;

use super::loops::{Loop, Mounted, drop_caches, run};
use super::{figure, median};

const ROUNDS: usize = 3;
const FILES: usize = 40_000;

pub fn measure() -> Result<()> {
    let folder = tempfile::tempdir_in(qemu::target_dir())?;
    let source = Loop::new(folder.path(), 4096)?;
    let target = Loop::new(folder.path(), 4096)?;
    let files = fill(&source, folder.path())?;
    let be = be_program()?;
    let be = be.to_string_lossy();
    let short = source.name().trim_start_matches("/dev/").to_owned();
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(cp(&source, &target, folder.path())?);
        run(&["wipefs", "-qa", target.name()])?;
        drop_caches()?;
        let start = Instant::now();
        let place = format!("/:{}:ext4", target.name());
        let from = format!("@{short}");
        run(&[&be, "create", "bench", "--from", &from, "-m", &place, "--no-boot-entry", "--yes", "--quiet"])?;
        ours.push(start.elapsed().as_secs_f64());
        run(&["wipefs", "-qa", target.name()])?;
    }
    let ratio = median(ours.clone()) / median(theirs.clone());
    figure(
        &format!("be create of {files} files, whole verb, to cp -a with sync"),
        &format!("{ratio:.2}"),
        "1 (cold, ext4 to ext4)",
    );
    println!("    medians of {ROUNDS}: be create {:.2} s, cp -a {:.2} s", median(ours), median(theirs));
    Ok(())
}

fn cp(source: &Loop, target: &Loop, folder: &Path) -> Result<f64> {
    run(&["mke2fs", "-q", "-F", "-t", "ext4", target.name()])?;
    let from = Mounted::new(source.name(), &folder.join("from"))?;
    let to = Mounted::new(target.name(), &folder.join("to"))?;
    drop_caches()?;
    let start = Instant::now();
    run(&["cp", "-a", &format!("{}/.", from.0.display()), &to.0.to_string_lossy()])?;
    run(&["sync", "-f", &to.0.to_string_lossy()])?;
    Ok(start.elapsed().as_secs_f64())
}

/// A Debian with documentation and locales, until it has files enough.
fn fill(source: &Loop, folder: &Path) -> Result<usize> {
    let fixture = Debian::new(Release::Bookworm).generic_kernel().build()?;
    run(&["mke2fs", "-q", "-F", "-t", "ext4", source.name()])?;
    let root = Mounted::new(source.name(), &folder.join("fill"))?;
    let tarball = fixture.tarball();
    let tarball = tarball.to_str().context("the path of the tarball is text")?;
    run(&["tar", "-xpf", tarball, "--xattrs", "--xattrs-include=*", "-C", &root.0.to_string_lossy()])?;
    let count = || anyhow::Ok(run(&["find", &root.0.to_string_lossy()])?.lines().count());
    let mut files = count()?;
    let mut copies = 0;
    while files <= FILES {
        // A second and third tree of the same real files stands for what a bare Debian lacks.
        copies += 1;
        let place = root.0.join(format!("srv/more-{copies}"));
        std::fs::create_dir_all(&place)?;
        run(&["cp", "-a", &root.0.join("usr").to_string_lossy(), &place.to_string_lossy()])?;
        files = count()?;
        ensure!(copies < 8, "{files} files after {copies} copies");
    }
    Ok(files)
}
