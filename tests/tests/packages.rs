//! The Debian packages: their checker finds no fault, and shells and man(1) read what is in them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tests::packages;

fn sh(directory: &Path, script: &str) -> Result<String> {
    let output = Command::new("bash")
        .args(["-ec", script])
        .current_dir(directory)
        .output()
        .context("starting bash")?;
    let text =
        String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    ensure!(output.status.success(), "{script}\n{text}");
    Ok(text)
}

#[test]
fn lintian_finds_no_fault() -> Result<()> {
    let files = packages::files()?;
    let output = Command::new("lintian")
        .args(["--fail-on", "error,warning"])
        .args(files)
        .output()
        .context("starting lintian")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    Ok(())
}

#[test]
fn the_version_is_that_of_the_programs() -> Result<()> {
    let changelog = include_str!("../../debian/changelog");
    let version = env!("CARGO_PKG_VERSION");
    ensure!(
        changelog.starts_with(&format!("lifeboat ({version}) ")),
        "debian/changelog: {version}"
    );
    Ok(())
}

#[test]
fn shells_complete_and_man_shows_what_is_packaged() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let root = directory.path();
    for file in packages::files()? {
        sh(root, &format!("dpkg-deb -x '{}' .", file.display()))?;
    }
    let bash = "PATH=$PWD/usr/sbin:$PATH; . usr/share/bash-completion/completions/be; \
        COMP_WORDS=(be act) COMP_CWORD=1; $(complete -p be | sed 's/.*-F \\([^ ]*\\).*/\\1/') be act be; \
        echo \"${COMPREPLY[@]}\"";
    ensure!(sh(root, bash)?.contains("activate"), "bash");
    let zsh = "zsh -fc 'fpath=($PWD/usr/share/zsh/vendor-completions $fpath); autoload -Uz compinit; \
        compinit -D -u; echo $_comps[be]'";
    ensure!(sh(root, zsh)?.trim() == "_be", "zsh");
    let fish =
        "fish -c 'source usr/share/fish/vendor_completions.d/be.fish; complete -C \"be act\"'";
    ensure!(sh(root, fish)?.contains("activate"), "fish");
    // man(1) warns of what groff does not understand.
    let man = "for page in usr/share/man/man8/*.8.gz; do \
        LC_ALL=C MANROFFSEQ= MANWIDTH=80 man --warnings -l $page 2>&1 >/dev/null; done";
    let warnings = sh(root, man)?;
    ensure!(warnings.is_empty(), "{warnings}");
    let text = sh(root, "man -l usr/share/man/man8/lucreate.8.gz")?;
    ensure!(text.contains("lucreate"), "{text}");
    Ok(())
}
