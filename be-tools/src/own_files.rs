//! The program and the systemd units (systemd.unit(5)) that `be create` and `be adopt` install in a
//! BE.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Doing, Result};
use crate::host::Host;
use crate::root_dir::RootDir;

/// Where a BE keeps its descriptor, relative to its root.
pub const DESCRIPTOR_PATH: &str = "etc/lifeboat/environment.toml";

/// Where a BE keeps what was done to it, relative to its root.
pub const HISTORY_PATH: &str = "etc/lifeboat/history.jsonl";

/// Where every BE keeps the program, relative to its root.
pub const PROGRAM_PATH: &str = "usr/lib/lifeboat/be";

/// The files and symlinks that [`install_program`] creates in a BE, relative to its root.
pub fn installed() -> impl Iterator<Item = &'static str> {
    let files = installed_files().iter().map(|file| file.path);
    let symlinks = installed_symlinks().iter().map(|symlink| symlink.path);
    std::iter::once(PROGRAM_PATH).chain(files).chain(symlinks)
}

/// Whether the system at `root` is started by systemd, which runs the units. Without them nothing
/// confirms a trial, and nothing says that a start went well.
pub fn is_started_by_systemd(root: &RootDir) -> bool {
    let file = |path: &str| root.metadata(path).ok().flatten().map(|m| (m.dev(), m.ino()));
    let init = file("sbin/init");
    let systemd = ["usr/lib/systemd/systemd", "lib/systemd/systemd"].map(file);
    init.is_some() && systemd.contains(&init)
}

/// Installs `program`, which is the running one, and the units that start it in the BE at `root`.
///
/// # Errors
/// When the program cannot be read or a file cannot be written.
pub fn install_program(root: &Path, program: &Path) -> Result<Vec<String>> {
    install(&RootDir::open(root)?, program)
}

/// Brings the program of the running system up to date, and adds the units that it lacks. Those that
/// it has may be as an administrator wants them. Nothing is done if that system is not a BE.
///
/// # Errors
/// When the program cannot be read or a file cannot be written.
pub(crate) fn update(host: &Host, program: &Path) -> Result<Vec<String>> {
    let root = RootDir::open(&host.root)?;
    if root.metadata(DESCRIPTOR_PATH)?.is_none() {
        return Ok(Vec::new());
    }
    let mut done: Vec<String> = install_binary(&root, program)?.into_iter().collect();
    for unit in installed_files() {
        if root.symlink_metadata(unit.path)?.is_some() {
            continue;
        }
        // The unit comes last: what is there is taken for what the administrator wants.
        let starts = |symlink: &&InstalledSymlink| symlink.target.ends_with(unit.path);
        for symlink in installed_symlinks().iter().filter(starts) {
            root.symlink(symlink.path, symlink.target)?;
            done.push(format!("/{} is a symlink to {}", symlink.path, symlink.target));
        }
        root.write(unit.path, unit.contents.as_bytes(), unit.mode)?;
        done.push(format!("/{} installed", unit.path));
    }
    Ok(done)
}

fn install_binary(root: &RootDir, program: &Path) -> Result<Option<String>> {
    let bytes = std::fs::read(program).at("reading", program)?;
    let mut installed = Vec::with_capacity(bytes.len());
    // Without /proc it cannot be read, and is written again.
    if let Ok(Some(file)) = root.file(PROGRAM_PATH) {
        let limit = bytes.len() as u64 + 1;
        file.take(limit)
            .read_to_end(&mut installed)
            .at("reading", &root.path().join(PROGRAM_PATH))?;
    }
    if installed == bytes {
        return Ok(None);
    }
    root.write(PROGRAM_PATH, &bytes, 0o755)?;
    Ok(Some(format!("/{PROGRAM_PATH} installed")))
}

pub(crate) fn install(root: &RootDir, program: &Path) -> Result<Vec<String>> {
    let mut done: Vec<String> = install_binary(root, program)?.into_iter().collect();
    for unit in installed_files() {
        if root.read(unit.path)?.as_deref() != Some(unit.contents.as_bytes()) {
            root.write(unit.path, unit.contents.as_bytes(), unit.mode)?;
            done.push(format!("/{} installed", unit.path));
        }
    }
    for symlink in installed_symlinks() {
        root.symlink(symlink.path, symlink.target)?;
        done.push(format!("/{} is a symlink to {}", symlink.path, symlink.target));
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
    /// Its text.
    pub contents: &'static str,
}

/// A symlink that makes systemd start one of the units at boot, as `systemctl enable` creates it.
#[derive(Clone, Copy, Debug)]
pub struct InstalledSymlink {
    /// Path in the BE, without the leading slash.
    pub path: &'static str,
    /// The path it points to.
    pub target: &'static str,
}

/// The unit files, in the order in which they are written. They are in `/etc`, which is always on
/// the root file system.
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
        InstalledFile {
            path: "etc/systemd/system/lifeboat-used.service",
            mode: 0o644,
            contents: include_str!("../units/lifeboat-used.service"),
        },
        InstalledFile {
            path: "etc/systemd/system/lifeboat-sync.service",
            mode: 0o644,
            contents: include_str!("../units/lifeboat-sync.service"),
        },
    ]
}

/// The symlinks, which are created after the files.
pub fn installed_symlinks() -> &'static [InstalledSymlink] {
    &[
        InstalledSymlink {
            path: "etc/systemd/system/basic.target.wants/lifeboat-confirm.service",
            target: "/etc/systemd/system/lifeboat-confirm.service",
        },
        InstalledSymlink {
            path: "etc/systemd/system/sysinit.target.wants/lifeboat-deadline.service",
            target: "/etc/systemd/system/lifeboat-deadline.service",
        },
        InstalledSymlink {
            path: "etc/systemd/system/sysinit.target.wants/lifeboat-used.service",
            target: "/etc/systemd/system/lifeboat-used.service",
        },
        InstalledSymlink {
            path: "etc/systemd/system/emergency.target.wants/lifeboat-used.service",
            target: "/etc/systemd/system/lifeboat-used.service",
        },
        InstalledSymlink {
            path: "etc/systemd/system/sysinit.target.wants/lifeboat-sync.service",
            target: "/etc/systemd/system/lifeboat-sync.service",
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_unit_is_wanted_by_the_target_that_it_names() {
        let mut expected = Vec::new();
        for file in installed_files() {
            let wanted = file.contents.lines().find_map(|l| l.strip_prefix("WantedBy=")).unwrap();
            let name = file.path.rsplit('/').next().unwrap();
            expected.extend(wanted.split(' ').map(|target| {
                (format!("etc/systemd/system/{target}.wants/{name}"), format!("/{}", file.path))
            }));
        }
        let found: Vec<_> = installed_symlinks()
            .iter()
            .map(|symlink| (symlink.path.to_owned(), symlink.target.to_owned()))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_new_program_reaches_a_system_that_is_a_be_and_no_other() {
        let firmware = crate::loader::testing::Firmware::new();
        let host = firmware.host();
        std::fs::create_dir_all(host.program().parent().unwrap()).unwrap();
        std::fs::write(host.program(), "this program").unwrap();
        let own = host.root.join(PROGRAM_PATH);
        let program = host.program();
        assert_eq!(update(&host, &program).unwrap(), Vec::<String>::new());
        assert!(!own.exists());
        let descriptor = host.root.join(DESCRIPTOR_PATH);
        std::fs::create_dir_all(descriptor.parent().unwrap()).unwrap();
        std::fs::write(descriptor, "").unwrap();
        assert_eq!(update(&host, &program).unwrap().len(), installed().count());
        assert_eq!(std::fs::read(&own).unwrap(), b"this program");
        // What an administrator changed, disabled or masked stays so.
        let [first, second, third, _] = installed_files() else { panic!("other units") };
        let at = |path: &str| host.root.join(path);
        std::fs::write(at(first.path), "changed").unwrap();
        let disabled =
            installed_symlinks().iter().find(|s| s.target.ends_with(second.path)).unwrap();
        std::fs::remove_file(at(disabled.path)).unwrap();
        std::fs::remove_file(at(third.path)).unwrap();
        std::os::unix::fs::symlink("/dev/null", at(third.path)).unwrap();
        std::fs::write(&own, "old").unwrap();
        assert_eq!(update(&host, &program).unwrap().len(), 1);
        assert_eq!(std::fs::read(&own).unwrap(), b"this program");
        assert_eq!(std::fs::read(at(first.path)).unwrap(), b"changed");
        assert!(at(disabled.path).symlink_metadata().is_err());
        assert_eq!(std::fs::read_link(at(third.path)).unwrap(), Path::new("/dev/null"));
    }

    #[test]
    fn another_init_than_systemd_is_told_from_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = RootDir::open(directory.path()).unwrap();
        assert!(!is_started_by_systemd(&root));
        crate::storage::testing::debian_root(directory.path(), "", "1");
        assert!(is_started_by_systemd(&root));
        // systemd may be installed and not be the init.
        std::fs::remove_file(directory.path().join("usr/sbin/init")).unwrap();
        std::fs::write(directory.path().join("usr/sbin/init"), "sysvinit").unwrap();
        assert!(!is_started_by_systemd(&root));
    }

    #[test]
    fn the_units_run_the_installed_program() {
        for file in installed_files() {
            assert!(file.contents.contains("\nExecStart=/usr/lib/lifeboat/be "), "{}", file.path);
        }
    }
}
