//! The second pass over a source that is in use: what is different from the target, or was touched since the first
//! pass began, is copied again; what is gone goes. What changes once more is named.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;
use rustix::time::ClockId;

use super::Trouble;
use super::engine::{Engine, Job};
use super::entry::unlock_named;
use super::exclude::Verdict;
use super::folders::{Id, ROOT, Side, open_in};
use super::metadata::unlock;
use super::queue::lock;

/// A moment on the clock of inode changes, which nobody can set back: seconds, nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Instant(i64, i64);

/// The clock that the kernel stamps inodes with moves in steps of up to 10 ms.
const STEP: i64 = 20_000_000;

/// The moment from which a change counts as new.
pub fn now() -> Instant {
    let now = rustix::time::clock_gettime(ClockId::RealtimeCoarse);
    let (seconds, nanoseconds) = (now.tv_sec, now.tv_nsec - STEP);
    if nanoseconds < 0 {
        Instant(seconds - 1, nanoseconds + 1_000_000_000)
    } else {
        Instant(seconds, nanoseconds)
    }
}

impl Instant {
    /// The inode has been changed at this moment or later.
    pub fn reached_by(self, stat: &Stat) -> bool {
        (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or(0)) >= (self.0, self.1)
    }
}

/// Content and inode were not touched between the two looks.
fn untouched(before: &Stat, after: &Stat) -> bool {
    let moments = |s: &Stat| (s.st_size, s.st_mtime, s.st_mtime_nsec, s.st_ctime, s.st_ctime_nsec);
    moments(before) == moments(after)
}

/// The target's entry is a copy of this state of the source's.
fn alike(source: &Stat, target: &Stat) -> bool {
    let kept = |s: &Stat| (s.st_mode, s.st_uid, s.st_gid, s.st_rdev, s.st_size, s.st_mtime, s.st_mtime_nsec);
    kept(source) == kept(target)
}

impl Engine<'_> {
    /// The first pass has copied it, and nothing has happened to it since.
    pub(super) fn unchanged(&self, job: &Job, stat: &Stat) -> Result<bool, Trouble> {
        if self.since.is_none_or(|since| since.reached_by(stat)) {
            return Ok(false);
        }
        let opening = |why| Trouble::Target("opening the folder of", why);
        let folder = self.folders.open(Side::Target, job.folder).map_err(opening)?;
        Ok(rustix::fs::statat(&*folder, &*job.name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|there| alike(stat, &there)))
    }

    /// Looks at the source once more after an entry was copied.
    pub(super) fn compare_after(&self, (folder, name): (Id, &CStr), before: &Stat, after: &Stat) {
        if self.since.is_some() {
            lock(&self.recopied).push((folder, name.to_owned(), *before));
        } else if !self.request.two_pass && !untouched(before, after) {
            self.changed(folder, name);
        }
    }

    /// Names what changed while or after the second pass copied it.
    pub(super) fn look_again(&self) {
        for (folder, name, before) in lock(&self.recopied).drain(..) {
            let now = self
                .folders
                .open(Side::Source, folder)
                .and_then(|at| rustix::fs::statat(&*at, &*name, AtFlags::SYMLINK_NOFOLLOW));
            if !now.is_ok_and(|now| untouched(&before, &now)) {
                self.changed(folder, &name);
            }
        }
    }

    /// Removes from the target's folder what the source's has no more.
    pub(super) fn prune(&self, id: Id) -> Result<(), Trouble> {
        if !lock(&self.unfinished).get(&id).is_some_and(|folder| folder.suspect) {
            return Ok(());
        }
        let source = self.folders.open(Side::Source, id).map_err(Trouble::Source)?;
        let target = self.folders.open(Side::Target, id).map_err(|why| Trouble::Target("opening", why))?;
        for name in names(&target).map_err(|why| Trouble::Target("reading", why))? {
            let gone =
                matches!(rustix::fs::statat(&*source, &*name, AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
            let ours = self.request.exclude.verdict(&self.folders.path(id, name.to_bytes()), Verdict::Copy);
            if gone && ours == Verdict::Copy && !(id == ROOT && name.to_bytes() == b"lost+found") {
                remove(&target, &name).map_err(|why| Trouble::Target("removing what is gone from", why))?;
            }
        }
        Ok(())
    }
}

fn names(folder: &OwnedFd) -> Result<Vec<CString>, Errno> {
    // Reading moves the descriptor's place, which others share.
    let folder = open_in(folder, c".")?;
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut listing = RawDir::new(&folder, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = listing.next() {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes an entry of the target with all that is below it, but nothing that is mounted there.
pub fn remove(folder: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let unlink = || rustix::fs::unlinkat(folder, name, AtFlags::empty());
    match unlink() {
        Err(Errno::PERM | Errno::ISDIR) => {}
        other => return other,
    }
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        unlock_named(folder, name);
        return unlink();
    }
    let inner = open_in(folder, name)?;
    unlock(&inner);
    for name in names(&inner)? {
        remove(&inner, &name)?;
    }
    rustix::fs::unlinkat(folder, name, AtFlags::REMOVEDIR)
}
