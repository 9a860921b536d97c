//! Removes from the target what the source no longer has, and what an interrupted run left behind.

use std::ffi::{CStr, CString, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, IFlags, Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::engine::Engine;
use super::temporary;
use crate::inode_flags::{lift, put_back, unlock};
use crate::tree::directories::{DIRECTORY, DirectoryId, InodeId, ROOT, Side, open_in};
use crate::tree::entry_error::EntryError;
use crate::tree::exclude::{Exclude, Verdict};
use crate::tree::subvolume::{Subvolume, make_writable};
use crate::tree::walk::{Batch, SourceDirectory};

impl Engine<'_> {
    /// Removes what a directory of the source no longer has from its counterpart in the target.
    /// Returns the sorted names of what is left in the target, or `None` if the batch is not the
    /// whole directory.
    pub(super) fn prune(
        &self,
        source: SourceDirectory<'_>,
        batch: &Batch,
    ) -> Result<Option<Vec<CString>>, EntryError> {
        let target = self
            .directories
            .open(Side::Target, source.id)
            .map_err(|why| EntryError::Target("opening", why))?;
        let mut there = names(&target).map_err(|why| EntryError::Target("reading", why))?;
        there.sort_unstable();
        let mut ours: Vec<&CStr> = Vec::new();
        if batch.whole {
            ours.extend(batch.entries.iter().map(|entry| &*entry.name));
            ours.sort_unstable();
        }
        let mut failed = None;
        let mut ours = ours.into_iter().peekable();
        there.retain(|name| {
            while ours.next_if(|our| *our < &**name).is_some() {}
            if ours.peek() == Some(&&**name) {
                return true;
            }
            // The batch does not name every entry of a large directory, or what was created since
            // the directory was listed.
            let gone = matches!(
                rustix::fs::statat(&**source.fd, &**name, AtFlags::SYMLINK_NOFOLLOW),
                Err(Errno::NOENT)
            );
            if !gone || failed.is_some() {
                return true;
            }
            match self.remove_gone(source.id, source.verdict, &target, name) {
                Ok(removed) => !removed,
                Err(why) => {
                    failed = Some(why);
                    true
                }
            }
        });
        match failed {
            Some(why) => Err(EntryError::Target("removing what is gone from", why)),
            None => Ok(batch.whole.then_some(there)),
        }
    }

    fn remove_gone(
        &self,
        id: DirectoryId,
        verdict: Verdict,
        target: &OwnedFd,
        name: &CStr,
    ) -> Result<bool, Errno> {
        if id == ROOT && name.to_bytes() == b"lost+found" {
            return Ok(false);
        }
        let path = self.directories.path(id, name.to_bytes());
        let ours = match self.request.exclude.verdict(&path, verdict) {
            Verdict::Skip if temporary::is_temporary(name) => Verdict::Copy,
            other => other,
        };
        if !matches!(ours, Verdict::Copy | Verdict::DescendOnly) {
            return Ok(false);
        }
        let root = self.directories.open(Side::Target, ROOT)?;
        let rules = Some(Rules { exclude: &self.request.exclude, verdict: ours, root: &root });
        let Removal { entries, snapshots } = match remove(target, name, path.clone(), rules) {
            Err(Errno::PERM) if unlock(target) => {
                self.touch(id);
                remove(target, name, path, rules)?
            }
            other => other?,
        };
        for path in snapshots {
            let path = PathBuf::from(OsString::from_vec(path));
            self.remark_on_path(path, "a snapshot that was made in the target, and is kept");
        }
        if entries > 0 {
            self.touch(id);
            self.removed.fetch_add(entries, Ordering::Relaxed);
        }
        Ok(entries > 0)
    }
}

/// Lists the names in a directory that was just opened.
pub fn names(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut listing = RawDir::new(directory, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let entry = match entry {
            Err(Errno::INTR) => continue,
            other => other?,
        };
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

/// What is not removed.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// What a copy leaves out.
    pub exclude: &'a Exclude,
    /// What that says of the entry.
    pub verdict: Verdict,
    /// The root of the target, whose snapshots are kept.
    pub root: &'a OwnedFd,
}

impl Rules<'_> {
    fn keep_snapshot(&self, directory: &OwnedFd, stat: &Stat, path: &[u8]) -> bool {
        Subvolume::with_root(directory, stat)
            .is_some_and(|found| found.is_old_state_of(self.root, path))
            && !self.exclude.is_included(path)
    }
}

/// What [`remove`] did.
#[derive(Debug, Default)]
pub struct Removal {
    /// How many entries it removed.
    pub entries: u64,
    /// The paths of the snapshots that it kept.
    pub snapshots: Vec<Vec<u8>>,
}

/// A directory that is being emptied, on the path from the entry that is removed to the current
/// one.
struct Level {
    name: CString,
    /// Names of entries that are yet to be removed.
    entries: Vec<CString>,
    inode: InodeId,
    verdict: Verdict,
    /// The length of the path of the directory that holds it.
    length_above: usize,
    /// Whether the directory is kept, because something in it is.
    stays: bool,
    /// The flags that kept it from being changed.
    lifted: Option<IFlags>,
}

/// Removes an entry of the target and everything below it, except what is mounted there and what
/// `rules` leave out. With rules, snapshots are left out as they are by a copy. A deep tree takes
/// memory for names, but no file descriptors.
///
/// # Errors
/// As unlinkat(2).
pub fn remove(
    directory: &OwnedFd,
    name: &CStr,
    mut path: Vec<u8>,
    rules: Option<Rules<'_>>,
) -> Result<Removal, Errno> {
    let mut done = Removal::default();
    let verdict = rules.map_or(Verdict::Copy, |rules| rules.verdict);
    if verdict == Verdict::Copy {
        match unlink(directory, name) {
            Err(Errno::ISDIR) => {}
            other => return other.map(|()| Removal { entries: 1, ..done }),
        }
    }
    let mut at = match open_in(directory, name) {
        // Only entries below this one are to be removed, and there are none.
        Err(Errno::NOTDIR | Errno::LOOP) if verdict == Verdict::DescendOnly => return Ok(done),
        other => other?,
    };
    let Some(first) = Level::begin(&at, name.to_owned(), verdict, &path, rules)? else {
        done.snapshots.push(path);
        return Ok(done);
    };
    let mut levels = vec![first];
    while let Some(here) = levels.last_mut() {
        let Some(entry) = here.entries.pop() else {
            let Some(level) = levels.pop() else { break };
            let stays = level.stays || level.verdict != Verdict::Copy;
            path.truncate(level.length_above);
            if let (true, Some(lifted)) = (stays, level.lifted) {
                put_back(&at, lifted);
            }
            if let Some(above) = levels.last_mut() {
                at = rustix::fs::openat(&at, c"..", DIRECTORY, Mode::empty())?;
                let stat = rustix::fs::fstat(&at)?;
                if InodeId::of(&stat) != above.inode {
                    return Err(Errno::STALE);
                }
                above.stays |= stays;
            }
            if !stays {
                let parent = if levels.is_empty() { directory } else { &at };
                rustix::fs::unlinkat(parent, &*level.name, AtFlags::REMOVEDIR)?;
                done.entries += 1;
            }
            continue;
        };
        let length = path.len();
        path.push(b'/');
        path.extend_from_slice(entry.to_bytes());
        let verdict =
            rules.map_or(Verdict::Copy, |rules| rules.exclude.verdict(&path, here.verdict));
        let is_directory = match verdict {
            Verdict::Skip | Verdict::DirectoryOnly => {
                here.stays = true;
                path.truncate(length);
                continue;
            }
            Verdict::DescendOnly => {
                let stat = rustix::fs::statat(&at, &*entry, AtFlags::SYMLINK_NOFOLLOW)?;
                let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
                here.stays |= !is_directory;
                is_directory
            }
            Verdict::Copy => match unlink(&at, &entry) {
                Err(Errno::ISDIR) => true,
                other => {
                    other?;
                    done.entries += 1;
                    false
                }
            },
        };
        if is_directory {
            let inside = open_in(&at, &entry)?;
            if let Some(level) = Level::begin(&inside, entry, verdict, &path, rules)? {
                at = inside;
                levels.push(Level { length_above: length, ..level });
            } else {
                here.stays = true;
                done.snapshots.push(path.clone());
                path.truncate(length);
            }
        } else {
            path.truncate(length);
        }
    }
    Ok(done)
}

/// Removes an entry of the target and everything below it, even if its directory is immutable or
/// append-only.
///
/// # Errors
/// As unlinkat(2).
pub fn clear(directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    match remove(directory, name, Vec::new(), None) {
        Err(Errno::PERM) if unlock(directory) => {
            remove(directory, name, Vec::new(), None).map(drop)
        }
        other => other.map(drop),
    }
}

impl Level {
    /// Begins to empty an open directory. Returns `None` for a snapshot, which `rules` keep.
    fn begin(
        directory: &OwnedFd,
        name: CString,
        verdict: Verdict,
        path: &[u8],
        rules: Option<Rules<'_>>,
    ) -> Result<Option<Self>, Errno> {
        let stat = rustix::fs::fstat(directory)?;
        if rules.is_some_and(|rules| rules.keep_snapshot(directory, &stat, path)) {
            return Ok(None);
        }
        make_writable(directory, &stat)?;
        let lifted = lift(directory);
        let entries = names(directory)?;
        let (inode, length_above) = (InodeId::of(&stat), path.len());
        Ok(Some(Level { name, entries, inode, verdict, length_above, stays: false, lifted }))
    }
}

/// Removes an entry that is not a directory, even if it is immutable. A directory fails with
/// `EISDIR`.
fn unlink(directory: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let unlink = || rustix::fs::unlinkat(directory, name, AtFlags::empty());
    match unlink() {
        // The entry is immutable, or its directory is, or it is a directory and the file system
        // returns the error that POSIX names for that.
        Err(Errno::PERM) => {}
        other => return other,
    }
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    unlock_named(directory, name);
    unlink()
}

/// Clears the immutable and append-only flags of a file.
pub fn unlock_named(directory: &OwnedFd, name: &CStr) -> bool {
    let flags =
        OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty()).is_ok_and(|file| unlock(&file))
}
