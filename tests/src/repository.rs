//! A repository of packages for a machine, which has no network: a directory with the packages that
//! turn a Debian into its next release. It is cached by the system that it is for.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use qemu::{Debian, Release};

const SCRIPT: &str = include_str!("repository.sh");

/// The directory with the repository of `debian` for the release `to`, from the cache or downloaded
/// in a minute or two. It has the archive's layout: `debian/dists`, `debian/pool`.
///
/// # Errors
/// The fixture cannot be built, a program is missing, or packages cannot be downloaded.
pub fn upgrade_to(debian: &Debian, from: Release, to: Release) -> Result<PathBuf> {
    let tarball = debian.tarball()?;
    let system =
        tarball.file_stem().context("a tarball has a name")?.to_string_lossy().into_owned();
    let cache = qemu::target_dir().join("repositories");
    std::fs::create_dir_all(&cache).context("making a directory for repositories")?;
    let repository = std::path::absolute(cache.join(format!("{system}-to-{to}")))?;
    if !repository.exists() {
        let made = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("TARBALL", std::path::absolute(&tarball)?)
            .env("OUT", &repository)
            .env("FROM", from.name())
            .env("TO", to.name())
            .status()
            .context("starting sh")?;
        ensure!(made.success(), "making the repository {} failed: {made}", repository.display());
    }
    Ok(repository)
}
