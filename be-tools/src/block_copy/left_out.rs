//! Removes what is never copied from a block copy, which cannot leave out single files.

use std::ffi::{CString, OsStr};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

use crate::copy::prune::{names, remove};
use crate::error::{Doing, Result};
use crate::own_files::{DESCRIPTOR_PATH, HISTORY_PATH};
use crate::tree::directories::open_in;
use crate::tree::exclude::Exclude;
use crate::tree::open::open_root;

/// Removes what the rules leave out from the copy mounted at `root`, except its descriptor and its
/// history, which were written for it. `mountpoint` is where the file system is mounted in the boot
/// environment. Nothing may be mounted below `root`.
///
/// # Errors
/// When something cannot be removed.
pub fn remove_left_out(root: &Path, mountpoint: &Path, rules: &Exclude) -> Result<()> {
    let top = open_root(root)?;
    let below = |path: &[u8]| {
        Path::new(OsStr::from_bytes(path)).strip_prefix(mountpoint).ok().map(Path::to_owned)
    };
    let is_own = |path: &[u8]| {
        let own = [DESCRIPTOR_PATH, HISTORY_PATH].map(|own| Path::new("/").join(own));
        own.iter().any(|own| own.as_os_str().as_bytes() == path)
    };
    for path in rules.skipped().filter(|path| !is_own(path)) {
        let Some(path) = below(path) else { continue };
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let Some(directory) = open(&top, parent).at("opening", &root.join(parent))? else {
            continue;
        };
        match remove(&directory, &c_name(name), Vec::new(), None) {
            Ok(_) | Err(Errno::NOENT) => {}
            Err(why) => return Err(why).at("removing", &root.join(&path)),
        }
    }
    let emptied = rules.emptied().filter_map(|path| {
        let holds_all = mountpoint.starts_with(OsStr::from_bytes(path));
        if holds_all { Some(Path::new("").to_owned()) } else { below(path) }
    });
    for path in emptied.chain([Path::new("lost+found").to_owned()]) {
        if let Some(directory) = open(&top, &path).at("opening", &root.join(&path))? {
            empty(&directory).at("emptying", &root.join(&path))?;
        }
    }
    Ok(())
}

/// Opens a directory of the copy without following symlinks. Returns `None` if there is none.
fn open(top: &OwnedFd, path: &Path) -> std::result::Result<Option<OwnedFd>, Errno> {
    let mut directory = open_in(top, c".")?;
    for name in path {
        directory = match open_in(&directory, &c_name(name)) {
            Ok(found) => found,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(why) => return Err(why),
        };
    }
    Ok(Some(directory))
}

fn empty(directory: &OwnedFd) -> std::result::Result<(), Errno> {
    for name in names(directory)? {
        remove(directory, &name, Vec::new(), None)?;
    }
    Ok(())
}

/// Converts a name that comes from the rules. Such a name has no NUL; one that has becomes an empty
/// name, which does not exist.
fn c_name(name: &OsStr) -> CString {
    CString::new(name.as_bytes()).unwrap_or_default()
}
