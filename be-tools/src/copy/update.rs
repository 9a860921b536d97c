//! One entry that the target has already: equal, made equal, or replaced in one step, so that no
//! file of the target is ever half written under its own name.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode as Permissions, Stat};
use rustix::io::Errno;

use super::engine::Engine;
use super::entry::{READ, Subject};
use super::prune::{clear, unlock_named};
use super::request::Mode;
use crate::inode_flags::{EARLY, unlock};
use crate::timestamp::Timestamp;
use crate::tree::content::Content;
use crate::tree::directories::{Id, Side};
use crate::tree::entry_error::EntryError;
use crate::tree::metadata::Attributes;
use crate::tree::xattr::Place;

impl Engine<'_> {
    /// Makes the target's inode equal to the source's, and returns its number there. `foreign`:
    /// what the target has under this name is another inode's already.
    pub(super) fn make_equal(
        &self,
        subject: Subject<'_>,
        foreign: bool,
        content: &mut Content<'_>,
    ) -> Result<u64, EntryError> {
        let Subject { directory, name, stat, file } = subject;
        let to = self
            .directories
            .open(Side::Target, directory)
            .map_err(|why| EntryError::Target("opening the directory of", why))?;
        if self.is_fresh() {
            return self.inode(subject, &to, None, content);
        }
        let there = match rustix::fs::statat(&*to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => there,
            Err(Errno::NOENT) => return self.inode(subject, &to, None, content),
            Err(why) => return Err(EntryError::Target("looking at", why)),
        };
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let usable = !foreign && kind(&there) == kind(stat) && self.is_its_own(stat, &there);
        let kept = usable
            && match file {
                Some(file) => self.keep_file(subject, file, &to, content)?,
                None => self.keep_special(subject, &to, &there)?,
            };
        if kept { Ok(there.st_ino) } else { self.inode(subject, &to, Some(&there), content) }
    }

    /// The target's inode has no names that belong to another inode of the source.
    fn is_its_own(&self, stat: &Stat, there: &Stat) -> bool {
        let is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        is_directory
            || there.st_nlink == 1
            || (there.st_nlink <= stat.st_nlink && self.links.claim((there.st_dev, there.st_ino)))
    }

    /// Keeps a file whose content is the source's, with the source's attributes. False: it must be
    /// replaced.
    fn keep_file(
        &self,
        subject: Subject<'_>,
        source: &OwnedFd,
        to: &OwnedFd,
        content: &mut Content<'_>,
    ) -> Result<bool, EntryError> {
        let Subject { directory, name, stat, .. } = subject;
        // What cannot be opened or read is replaced.
        let Ok(target) = rustix::fs::openat(to, name, READ, Permissions::empty()) else {
            return Ok(false);
        };
        let Ok(there) = rustix::fs::fstat(&target) else { return Ok(false) };
        let ours = Attributes::read(Place::Open(source), *stat).map_err(EntryError::Source)?;
        let Ok(theirs) = Attributes::read(Place::Open(&target), there) else { return Ok(false) };
        if stat.st_size != there.st_size || (ours.flags ^ theirs.flags) & EARLY != 0 {
            return Ok(false);
        }
        let vouched = self.is_vouched_for(stat, &there) && !self.is_doubtful(directory, name);
        if !vouched && !content.is_same((source, stat), (&target, &there))? {
            return Ok(false);
        }
        if !ours.same_as(&theirs) {
            unlock(&target);
            let note = &mut |what| self.note(directory, name, what);
            ours.apply(Place::Open(&target), true, note)
                .map_err(|why| EntryError::Target("setting attributes of", why))?;
            self.lock_late(subject, &ours, &target, true);
            self.changed.fetch_add(1, Ordering::Relaxed);
        } else if Timestamp::of(stat) >= Timestamp::of(&there) {
            // The change of the target's inode is from now on later than the source's: they have
            // been compared. What is immutable is compared each time.
            let times = ours.times();
            let _ = rustix::fs::futimens(&target, &times);
        }
        let after = rustix::fs::fstat(source).map_err(EntryError::Source)?;
        self.compare_after((directory, name), stat, &after);
        Ok(true)
    }

    /// Same size, same time, and neither inode touched in a way that could hide a change of
    /// content: the second pass finds what the first one made, a refresh what the copy was when it
    /// was last complete.
    fn is_vouched_for(&self, stat: &Stat, there: &Stat) -> bool {
        let trust = match self.request.mode {
            Mode::Refresh(trust) => trust,
            Mode::Fresh => Default::default(),
        };
        (stat.st_mtime, stat.st_mtime_nsec) == (there.st_mtime, there.st_mtime_nsec)
            && Timestamp::of(stat) < Timestamp::of(there)
            && !trust.checksum
            && (self.first_pass.is_some()
                || trust.complete.is_some_and(|complete| complete >= Timestamp::of(there)))
            && !trust.interrupted.is_some_and(|session| session.reached_by(there))
            && !self.since().is_some_and(|since| since.reached_by(stat))
    }

    /// The same for links, devices, fifos and sockets.
    fn keep_special(
        &self,
        subject: Subject<'_>,
        to: &OwnedFd,
        there: &Stat,
    ) -> Result<bool, EntryError> {
        let Subject { directory, name, stat, .. } = subject;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            // It took the place of something else since it was listed.
            return Err(EntryError::Source(Errno::NOENT));
        }
        let from = self.directories.open(Side::Source, directory).map_err(EntryError::Source)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let text =
                rustix::fs::readlinkat(&*from, name, Vec::new()).map_err(EntryError::Source)?;
            if !rustix::fs::readlinkat(to, name, Vec::new()).is_ok_and(|other| other == text) {
                return Ok(false);
            }
        } else if stat.st_rdev != there.st_rdev {
            return Ok(false);
        }
        let ours =
            Attributes::read(Place::Named(&from, name), *stat).map_err(EntryError::Source)?;
        let Ok(theirs) = Attributes::read(Place::Named(to, name), *there) else { return Ok(false) };
        if !ours.same_as(&theirs) {
            ours.apply(Place::Named(to, name), true, &mut |what| self.note(directory, name, what))
                .map_err(|why| EntryError::Target("setting attributes of", why))?;
            self.changed.fetch_add(1, Ordering::Relaxed);
        }
        self.compare_after((directory, name), stat, stat);
        Ok(true)
    }

    /// Puts what `fill` makes in the place of what is there. The first copy into a new file system
    /// has nothing to protect, and perhaps no room for two: there the old goes first.
    pub(super) fn replace(
        &self,
        (id, to): (Id, &OwnedFd),
        name: &CStr,
        there: &Stat,
        mut fill: impl FnMut(&CStr) -> Result<(), EntryError>,
    ) -> Result<(), EntryError> {
        let failed = |why| EntryError::Target("replacing", why);
        let is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        if matches!(self.request.mode, Mode::Fresh) {
            self.touch(id);
            clear(to, name).map_err(failed)?;
            return fill(name);
        }
        let temporary = self.temporary.name();
        let put = fill(&temporary).and_then(|()| {
            if is_directory {
                self.touch(id);
                clear(to, name).map_err(failed)?;
            }
            let rename = || rustix::fs::renameat(to, &*temporary, to, name);
            let renamed = match rename() {
                Err(Errno::PERM) => {
                    unlock_named(to, name);
                    unlock(to);
                    rename()
                }
                other => other,
            };
            renamed.map_err(failed)
        });
        self.touch(id);
        if put.is_err() {
            // The next run removes it, if this cannot.
            let _ = rustix::fs::unlinkat(to, &*temporary, AtFlags::empty());
        }
        put
    }
}
