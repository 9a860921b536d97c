//! `/usr/sbin/policy-rc.d` of the BE: Debian's way to hold services back (policy-rc.d specification
//! of invoke-rc.d). The script acts only inside, so that one left behind by a power cut does no
//! harm.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::error::{Doing, Result};

/// Exists inside and nowhere else.
pub(super) const MARK: &str = "/run/lifeboat/inside";

/// The script's place.
pub(super) const PLACE: &str = "/usr/sbin/policy-rc.d";

const SCRIPT: &str = "#!/bin/sh
# Lifeboat: no service starts while a command runs in this boot environment from outside.
if [ -e /run/lifeboat/inside ]; then exit 101; fi
exit 0
";

/// The script in a BE that has none of its own; gone when dropped.
#[derive(Debug)]
pub(super) struct Policy {
    made: Option<PathBuf>,
}

impl Policy {
    /// Puts it there. A BE's own script stays: [`cover`] hides it inside.
    pub fn put(root: &Path) -> Result<Self> {
        // A link in the BE must not lead out of it.
        let how = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let top = rustix::fs::openat(CWD, root, how, Mode::empty()).at("opening", root)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let Ok(directory) = rustix::fs::openat2(&top, "usr/sbin", how, Mode::empty(), resolve)
        else {
            // Nothing of Debian's there: nothing would ask.
            return Ok(Policy { made: None });
        };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&directory);
        let directory = fs::read_link(format!("/proc/self/fd/{fd}")).at("reading", root)?;
        let script = directory.join("policy-rc.d");
        match fs::symlink_metadata(&script) {
            Ok(there) if there.is_file() && is_ours(&script) => {}
            Ok(_) => return Ok(Policy { made: None }),
            Err(_) => write(&script)?,
        }
        Ok(Policy { made: Some(script) })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if let Some(script) = &self.made
            && let Err(why) = fs::remove_file(script)
        {
            log::warn!("removing {}: {why}; it does nothing outside `be run`", script.display());
        }
    }
}

/// Inside, as root of the BE: makes the mark, and hides another script under ours.
pub(super) fn cover() -> Result<()> {
    let mark = Path::new(MARK);
    let directory = Path::new("/run/lifeboat");
    fs::DirBuilder::new().mode(0o755).create(directory).at("making", directory)?;
    fs::write(mark, "").at("making", mark)?;
    let place = Path::new(PLACE);
    if fs::symlink_metadata(place).is_err() || is_ours(place) {
        return Ok(());
    }
    let ours = directory.join("policy-rc.d");
    write(&ours)?;
    // What a link leads to is hidden; where it leads nowhere there is no script.
    if place.exists() {
        rustix::mount::mount_bind(&ours, place).at("hiding", place)
    } else {
        Ok(())
    }
}

/// A file of another length is not read: it may be of any.
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
    // The umask may have taken bits away.
    file.set_permissions(fs::Permissions::from_mode(0o755)).at("writing", script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_comes_and_goes_and_another_one_stays() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("usr/sbin");
        drop(Policy::put(root.path()).unwrap());
        fs::create_dir_all(&directory).unwrap();
        let script = directory.join("policy-rc.d");

        let policy = Policy::put(root.path()).unwrap();
        assert_eq!(fs::metadata(&script).unwrap().permissions().mode() & 0o7777, 0o755);
        drop(policy);
        assert!(!script.exists());

        // Left over from a power cut.
        fs::write(&script, SCRIPT).unwrap();
        drop(Policy::put(root.path()).unwrap());
        assert!(!script.exists());

        let other = "x".repeat(SCRIPT.len());
        for text in ["#!/bin/sh\nexit 0\n", &other] {
            fs::write(&script, text).unwrap();
            drop(Policy::put(root.path()).unwrap());
            assert_eq!(fs::read_to_string(&script).unwrap(), text);
        }

        // As long as a disk, if it were read.
        fs::File::create(&script).unwrap().set_len(1 << 40).unwrap();
        drop(Policy::put(root.path()).unwrap());
        assert_eq!(fs::metadata(&script).unwrap().len(), 1 << 40);
    }

    #[test]
    fn the_script_holds_services_back_only_inside() {
        let out = std::process::Command::new("sh").args(["-c", SCRIPT]).status().unwrap();
        assert_eq!(out.code(), Some(0), "outside");
    }
}
