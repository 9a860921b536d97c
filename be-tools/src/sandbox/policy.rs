//! `/usr/sbin/policy-rc.d` in the BE, with which Debian keeps services from being started (the
//! policy-rc.d specification of invoke-rc.d). The script has an effect only inside, so that one
//! left behind after a power cut is harmless.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::error::{Doing, Result};

/// A file that exists only inside.
pub(super) const MARK: &str = "/run/lifeboat/inside";

/// Path of the script.
pub(super) const SCRIPT_PATH: &str = "/usr/sbin/policy-rc.d";

const SCRIPT: &str = "#!/bin/sh
# Lifeboat: no service starts while a command runs in this boot environment from outside.
if [ -e /run/lifeboat/inside ]; then exit 101; fi
exit 0
";

/// The script in a BE that has none of its own. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Policy {
    installed: Option<PathBuf>,
}

impl Policy {
    /// Writes the script. One that the BE already has is left alone; [`cover`] hides it inside.
    pub fn install(root: &Path) -> Result<Self> {
        // A symlink in the BE must not be followed out of it.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, root, flags, Mode::empty()).at("opening", root)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let Ok(directory) = rustix::fs::openat2(&top, "usr/sbin", flags, Mode::empty(), resolve)
        else {
            // The BE is not a Debian, and does not use the script.
            return Ok(Policy { installed: None });
        };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&directory);
        let directory = fs::read_link(format!("/proc/self/fd/{fd}")).at("reading", root)?;
        let script = directory.join("policy-rc.d");
        match fs::symlink_metadata(&script) {
            Ok(there) if there.is_file() && is_ours(&script) => {}
            Ok(_) => return Ok(Policy { installed: None }),
            Err(_) => write(&script)?,
        }
        Ok(Policy { installed: Some(script) })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Some(script) = &self.installed
            && let Err(why) = fs::remove_file(script)
        {
            log::warn!(
                "removing {}: {why}; the script has no effect outside `be run`",
                script.display()
            );
        }
    }
}

/// Creates [`MARK`], and hides a script that the BE already has under ours. Runs inside, after the
/// root has been changed.
pub(super) fn cover() -> Result<()> {
    let mark = Path::new(MARK);
    let directory = Path::new("/run/lifeboat");
    fs::DirBuilder::new().mode(0o755).create(directory).at("making", directory)?;
    fs::write(mark, "").at("making", mark)?;
    let script = Path::new(SCRIPT_PATH);
    if fs::symlink_metadata(script).is_err() || is_ours(script) {
        return Ok(());
    }
    let ours = directory.join("policy-rc.d");
    write(&ours)?;
    // If the script is a symlink, its target is hidden. A dangling symlink has no effect.
    if script.exists() {
        rustix::mount::mount_bind(&ours, script).at("hiding", script)
    } else {
        Ok(())
    }
}

/// Whether a script is the one that [`Policy`] writes. A file of another length is not read,
/// because it may be huge.
fn is_ours(script: &Path) -> bool {
    fs::metadata(script).is_ok_and(|there| there.is_file() && there.len() == SCRIPT.len() as u64)
        && fs::read(script).is_ok_and(|text| text == SCRIPT.as_bytes())
}

fn write(script: &Path) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(script)
        .at("making", script)?;
    file.write_all(SCRIPT.as_bytes()).at("writing", script)?;
    // The umask may have cleared bits.
    file.set_permissions(fs::Permissions::from_mode(0o755)).at("writing", script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_script_is_removed_and_another_one_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/sbin");
        drop(Policy::install(root.path()).unwrap());
        fs::create_dir_all(&directory).unwrap();
        let script = directory.join("policy-rc.d");

        let policy = Policy::install(root.path()).unwrap();
        assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o7777, 0o755);
        drop(policy);
        assert!(!script.exists());

        // Left over from a power cut.
        fs::write(&script, SCRIPT).unwrap();
        drop(Policy::install(root.path()).unwrap());
        assert!(!script.exists());

        let other = "x".repeat(SCRIPT.len());
        for text in ["#!/bin/sh\nexit 0\n", &other] {
            fs::write(&script, text).unwrap();
            drop(Policy::install(root.path()).unwrap());
            assert_eq!(fs::read_to_string(&script).unwrap(), text);
        }

        // A file that is too large to be read.
        fs::File::create(&script).unwrap().set_len(1 << 40).unwrap();
        drop(Policy::install(root.path()).unwrap());
        assert_eq!(fs::metadata(&script).unwrap().len(), 1 << 40);
    }

    #[test]
    fn the_script_allows_services_outside() {
        let out = std::process::Command::new("sh").args(["-c", SCRIPT]).status().unwrap();
        assert_eq!(out.code(), Some(0), "outside");
    }
}
