//! `/usr/sbin/policy-rc.d` in the BE, with which Debian keeps services from being started (the
//! policy-rc.d specification of invoke-rc.d). The script has an effect only inside, so that one
//! left behind after a power cut is harmless.

use std::fs;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::{Doing, Result};

/// A file that exists only inside.
const MARK: &str = "/run/lifeboat/inside";

/// Path of the script.
const SCRIPT_PATH: &str = "/usr/sbin/policy-rc.d";

/// Its name in that directory.
const NAME: &str = "policy-rc.d";

const SCRIPT: &str = "#!/bin/sh
# Lifeboat: no service starts while a command runs in this boot environment from outside.
if [ -e /run/lifeboat/inside ]; then exit 101; fi
exit 0
";

/// The script in a BE that has none of its own. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Policy {
    installed: Option<Installed>,
}

/// The script that was written, by its inode: the command can put another directory in the place of
/// /usr/sbin, and another file in the place of the script.
#[derive(Debug)]
struct Installed {
    directory: OwnedFd,
    inode: Inode,
}

#[derive(Debug, PartialEq, Eq)]
struct Inode {
    device: u64,
    number: u64,
}

impl Inode {
    fn of(stat: &rustix::fs::Stat) -> Self {
        Inode { device: stat.st_dev, number: stat.st_ino }
    }
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
        let at = || format!("making policy-rc.d in {}", root.display());
        let inode = match existing(&directory) {
            Ok(Some(Existing { inode, is_ours: true })) => inode,
            Ok(Some(_)) => return Ok(Policy { installed: None }),
            Ok(None) => match create(&directory) {
                Ok(inode) => inode,
                // No package can be changed there either.
                Err(why) if why.raw_os_error() == Some(Errno::ROFS.raw_os_error()) => {
                    return Ok(Policy { installed: None });
                }
                Err(why) => return Err(why).doing(at),
            },
            Err(why) => return Err(why).doing(at),
        };
        Ok(Policy { installed: Some(Installed { directory, inode }) })
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        let Some(Installed { directory, inode }) = &self.installed else { return };
        match rustix::fs::statat(directory, NAME, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if Inode::of(&stat) == *inode => {
                if let Err(why) = rustix::fs::unlinkat(directory, NAME, AtFlags::empty()) {
                    log::warn!("removing policy-rc.d: {why}; it has no effect outside `be run`");
                }
            }
            // The command has removed or replaced it.
            Ok(_) | Err(_) => {}
        }
    }
}

/// What has the name of the script.
struct Existing {
    inode: Inode,
    is_ours: bool,
}

/// Looks at what has the name of the script. Only a regular file of the right length is read,
/// because another one may be huge or a device.
fn existing(directory: &OwnedFd) -> std::io::Result<Option<Existing>> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = match rustix::fs::openat(directory, NAME, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        other => other?,
    };
    let stat = rustix::fs::fstat(&found)?;
    let is_file = FileType::from_raw_mode(stat.st_mode).is_file();
    let is_ours = is_file
        && u64::try_from(stat.st_size).is_ok_and(|size| size == SCRIPT.len() as u64)
        && fs::read(format!("/proc/self/fd/{}", found.as_raw_fd()))? == SCRIPT.as_bytes();
    Ok(Some(Existing { inode: Inode::of(&stat), is_ours }))
}

fn create(directory: &OwnedFd) -> std::io::Result<Inode> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o755);
    let mut file = fs::File::from(rustix::fs::openat(directory, NAME, flags, mode)?);
    file.write_all(SCRIPT.as_bytes())?;
    // The umask may have cleared bits.
    file.set_permissions(fs::Permissions::from_mode(0o755))?;
    Ok(Inode::of(&rustix::fs::fstat(&file)?))
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
    fn only_the_script_that_was_written_is_removed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (directory, others) =
            (root.path().join("usr/sbin"), outside.path().join("policy-rc.d"));
        fs::create_dir_all(&directory).unwrap();
        fs::write(&others, "the running system's").unwrap();

        // What a command may do: put a symlink that leads out of the BE in the directory's place.
        let policy = Policy::install(root.path()).unwrap();
        let moved = root.path().join("usr/moved");
        fs::rename(&directory, &moved).unwrap();
        std::os::unix::fs::symlink(outside.path(), &directory).unwrap();
        drop(policy);
        assert_eq!(fs::read_to_string(&others).unwrap(), "the running system's");
        assert!(!moved.join("policy-rc.d").exists());

        // And another file in that of the script, with the same text.
        fs::remove_file(&directory).unwrap();
        fs::rename(&moved, &directory).unwrap();
        let policy = Policy::install(root.path()).unwrap();
        let script = directory.join("policy-rc.d");
        fs::write(directory.join("new"), SCRIPT).unwrap();
        fs::rename(directory.join("new"), &script).unwrap();
        drop(policy);
        assert!(script.exists());
    }

    #[test]
    fn the_script_allows_services_outside() {
        let out = std::process::Command::new("sh").args(["-c", SCRIPT]).status().unwrap();
        assert_eq!(out.code(), Some(0), "outside");
    }
}
