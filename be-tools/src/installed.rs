//! Lifeboat's own program and systemd units (systemd.unit(5)) in a BE: `be create` and `be adopt`
//! write them.

use std::io::Read;
use std::path::Path;

use crate::error::{Doing, Result};
use crate::root_dir::RootDir;

/// Where a BE keeps its descriptor, relative to its root.
pub const DESCRIPTOR_PATH: &str = "etc/lifeboat/environment.toml";

/// Where every BE keeps the program, relative to its root.
pub const PROGRAM_PATH: &str = "usr/lib/lifeboat/be";

/// What [`install_program`] puts into a BE, relative to its root.
pub fn installed() -> impl Iterator<Item = &'static str> {
    let (files, links) =
        (installed_files().iter().map(|f| f.path), installed_links().iter().map(|l| l.path));
    std::iter::once(PROGRAM_PATH).chain(files).chain(links)
}

/// Puts `program` (the one that runs) and the units that call it into the BE at `root`.
///
/// # Errors
/// When it cannot be read or written.
pub fn install_program(root: &Path, program: &Path) -> Result<Vec<String>> {
    install(&RootDir::open(root)?, program)
}

pub(crate) fn install(root: &RootDir, program: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(program).at("reading", program)?;
    let mut installed = Vec::with_capacity(bytes.len());
    if let Some(file) = root.file(PROGRAM_PATH)? {
        let limit = bytes.len() as u64 + 1;
        file.take(limit)
            .read_to_end(&mut installed)
            .at("reading", &root.path().join(PROGRAM_PATH))?;
    }
    let mut done = Vec::new();
    if installed != bytes {
        root.write(PROGRAM_PATH, &bytes, 0o755)?;
        done.push(format!("/{PROGRAM_PATH} installed"));
    }
    for unit in installed_files() {
        if root.read(unit.path)?.as_deref() != Some(unit.contents.as_bytes()) {
            root.write(unit.path, unit.contents.as_bytes(), unit.mode)?;
            done.push(format!("/{} installed", unit.path));
        }
    }
    for link in installed_links() {
        root.symlink(link.path, link.target)?;
        done.push(format!("/{} leads to {}", link.path, link.target));
    }
    Ok(done)
}

/// A file that belongs to Lifeboat in every BE.
#[derive(Clone, Copy, Debug)]
pub struct InstalledFile {
    /// Path in the BE, without the leading slash.
    pub path: &'static str,
    /// Permission bits.
    pub mode: u32,
    /// What it holds.
    pub contents: &'static str,
}

/// A symbolic link that starts one of the units at boot, as `systemctl enable` makes it.
#[derive(Clone, Copy, Debug)]
pub struct InstalledLink {
    /// Path in the BE, without the leading slash.
    pub path: &'static str,
    /// Where it leads.
    pub target: &'static str,
}

/// The files, in the order in which they are written. `/etc` is always on the root file system.
pub fn installed_files() -> &'static [InstalledFile] {
    &[
        InstalledFile {
            path: "etc/systemd/system/lifeboat-confirm.service",
            mode: 0o644,
            contents: include_str!("../units/lifeboat-confirm.service"),
        },
        InstalledFile {
            path: "etc/systemd/system/lifeboat-deadline.service",
            mode: 0o644,
            contents: include_str!("../units/lifeboat-deadline.service"),
        },
    ]
}

/// The links, made after the files.
pub fn installed_links() -> &'static [InstalledLink] {
    &[
        InstalledLink {
            path: "etc/systemd/system/basic.target.wants/lifeboat-confirm.service",
            target: "/etc/systemd/system/lifeboat-confirm.service",
        },
        InstalledLink {
            path: "etc/systemd/system/sysinit.target.wants/lifeboat-deadline.service",
            target: "/etc/systemd/system/lifeboat-deadline.service",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_wanted_by_what_its_text_says() {
        for (file, link) in installed_files().iter().zip(installed_links()) {
            let wanted = file.contents.lines().find_map(|l| l.strip_prefix("WantedBy=")).unwrap();
            let name = file.path.rsplit('/').next().unwrap();
            assert_eq!(link.path, format!("etc/systemd/system/{wanted}.wants/{name}"));
            assert_eq!(link.target, format!("/{}", file.path));
        }
    }

    #[test]
    fn the_units_run_the_program_that_every_be_carries() {
        for file in installed_files() {
            assert!(file.contents.contains("\nExecStart=/usr/lib/lifeboat/be "), "{}", file.path);
        }
    }
}
