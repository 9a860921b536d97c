//! The files of the rescue image: checkers find no fault, and builds are reproducible.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu::Release;
use tests::table::Scenario;
use tests::{rescue, scenario};

pub const SCENARIOS: &[Scenario] = &[scenario!(the_image_is_valid_and_its_build_reproducible)];

fn the_image_is_valid_and_its_build_reproducible(release: Release) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let one = build(release, &directory.path().join("one"), "umask 022; export TZ=UTC LC_ALL=C")?;
    let elsewhere = directory.path().join("another directory, with a longer name");
    let other = build(
        release,
        &elsewhere,
        "umask 077; export TZ=Asia/Kathmandu LC_ALL=tr_TR.UTF-8 HOME=/",
    )?;
    assert_eq!(one, other);

    let stick = directory.path().join("one/lifeboat.img");
    let stick = stick.to_str().context("the path of a temporary directory is text")?;
    let verdict = sh(&format!("sgdisk -v '{stick}'"))?;
    assert!(verdict.contains("No problems found"), "{verdict}");
    // The last partition is the ESP. The BIOS boot partition is before it.
    let esp = sh(&format!("partx -g -b -o START,SIZE,TYPE '{stick}' | grep -i c12a7328"))?;
    let mut words = esp.split_whitespace();
    let mut number =
        || words.next().and_then(|w| w.parse::<u64>().ok()).context("partx printed no number");
    let (start, size) = (number()?, number()?);
    let fat = directory.path().join("esp");
    sh(&format!(
        "dd if='{stick}' of='{0}' bs=1M iflag=skip_bytes,count_bytes skip={1} count={size} \
        status=none && fsck.fat -n '{0}'",
        fat.display(),
        start * 512
    ))?;
    Ok(())
}

/// Builds the image after running the shell commands `settings`. Returns the hashes of its files.
fn build(release: Release, directory: &Path, settings: &str) -> Result<String> {
    std::fs::create_dir_all(directory)?;
    // The copy of the program has another modification time.
    let binary = directory.join("rescue-init");
    std::fs::copy(rescue::image("rescue-init")?, &binary)?;
    let builder = rescue::image("image-builder")?;
    let cache = qemu::target_dir().join("packages");
    sh(&format!(
        "{settings}; cd '{0}' && '{1}' build --release {release} --binary rescue-init --cache \
        '{2}' --output . && \
         sha256sum lifeboat.efi lifeboat.img netboot/*",
        directory.display(),
        builder.display(),
        cache.display()
    ))
}

fn sh(script: &str) -> Result<String> {
    let output = Command::new("sh").args(["-ec", script]).output().context("starting sh")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{script}\n{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}
