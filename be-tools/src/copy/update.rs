//! One entry that the target already has: left alone if it is equal, otherwise made equal, or
//! replaced in one step, so that no file of the target is ever half written under its own name.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode as Permissions, Stat};
use rustix::io::Errno;

use super::engine::{Engine, TargetDirectory};
use super::entry::{READ, SourceEntry};
use super::prune::{clear, unlock_named};
use super::request::Mode;
use crate::inode_flags::{EARLY, unlock};
use crate::timestamp::Timestamp;
use crate::tree::content::{ContentCopier, OpenFile};
use crate::tree::directories::{InodeId, Side};
use crate::tree::entry::EntryRef;
use crate::tree::entry_error::EntryError;
use crate::tree::metadata::Attributes;
use crate::tree::xattr::InodeRef;

impl Engine<'_> {
    /// Makes the target's inode equal to the source's, and returns its number in the target. If
    /// `foreign`, the inode that the target has under this name is already the counterpart of
    /// another source inode.
    pub(super) fn make_equal(
        &self,
        source: SourceEntry<'_>,
        foreign: bool,
        content: &mut ContentCopier<'_>,
    ) -> Result<u64, EntryError> {
        let SourceEntry { entry: EntryRef { directory, name }, stat, file } = source;
        let to = self
            .directories
            .open(Side::Target, directory)
            .map_err(|why| EntryError::Target("opening the directory of", why))?;
        if self.is_fresh() {
            return self.create_inode(source, &to, None, content);
        }
        let there = match rustix::fs::statat(&*to, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => there,
            Err(Errno::NOENT) => return self.create_inode(source, &to, None, content),
            Err(why) => return Err(EntryError::Target("reading the metadata of", why)),
        };
        let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
        let usable = !foreign && kind(&there) == kind(stat) && self.is_counterpart(stat, &there);
        let kept = usable
            && match file {
                Some(file) => self.keep_file(source, file, &to, content)?,
                None => self.keep_special(source, &to, &there)?,
            };
        if kept { Ok(there.st_ino) } else { self.create_inode(source, &to, Some(&there), content) }
    }

    /// Whether the target's inode has no names that belong to another inode of the source.
    fn is_counterpart(&self, stat: &Stat, there: &Stat) -> bool {
        let is_directory = FileType::from_raw_mode(there.st_mode) == FileType::Directory;
        is_directory
            || there.st_nlink == 1
            || (there.st_nlink <= stat.st_nlink && self.links.claim(InodeId::of(there)))
    }

    /// Keeps a file whose content is equal to the source's, and makes its attributes equal. Returns
    /// false if the file must be replaced.
    fn keep_file(
        &self,
        source: SourceEntry<'_>,
        file: &OwnedFd,
        to: &OwnedFd,
        content: &mut ContentCopier<'_>,
    ) -> Result<bool, EntryError> {
        let SourceEntry { entry, stat, .. } = source;
        // A target file that cannot be opened or read is replaced.
        let Ok(target) = rustix::fs::openat(to, entry.name, READ, Permissions::empty()) else {
            return Ok(false);
        };
        let Ok(there) = rustix::fs::fstat(&target) else { return Ok(false) };
        let ours = Attributes::read(InodeRef::Open(file), *stat).map_err(EntryError::Source)?;
        let Ok(theirs) = Attributes::read(InodeRef::Open(&target), there) else { return Ok(false) };
        if stat.st_size != there.st_size || (ours.flags ^ theirs.flags) & EARLY != 0 {
            return Ok(false);
        }
        let trusted = self.is_content_trusted(stat, &there) && !self.is_doubtful(entry);
        if !trusted {
            let (ours, theirs) =
                (OpenFile { fd: file, stat }, OpenFile { fd: &target, stat: &there });
            if !content.is_same(ours, theirs)? {
                return Ok(false);
            }
        }
        if !ours.same_as(&theirs) {
            unlock(&target);
            let note = &mut |what| self.report_not_representable(entry, what);
            ours.apply(InodeRef::Open(&target), true, note)
                .map_err(|why| EntryError::Target("setting attributes of", why))?;
            self.set_late_flags(source, &ours, &target, true);
            self.changed.fetch_add(1, Ordering::Relaxed);
        } else if Timestamp::of(stat) >= Timestamp::of(&there) {
            // Setting the times makes the target's ctime later than the source's, so that the next
            // refresh need not compare the contents again. This fails for an immutable file, whose
            // content is therefore compared each time.
            let times = ours.times();
            let _ = rustix::fs::futimens(&target, &times);
        }
        let after = rustix::fs::fstat(file).map_err(EntryError::Source)?;
        self.check_after_copy(entry, stat, &after);
        Ok(true)
    }

    /// Whether contents are equal without comparing them: the modification times are equal, and
    /// neither inode was changed in a way that could hide a change of content. In a second pass
    /// that means since the first pass copied it, in a refresh since the copy was last complete.
    fn is_content_trusted(&self, stat: &Stat, there: &Stat) -> bool {
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

    /// As [`Engine::keep_file`], for symlinks, devices, fifos and sockets.
    fn keep_special(
        &self,
        source: SourceEntry<'_>,
        to: &OwnedFd,
        there: &Stat,
    ) -> Result<bool, EntryError> {
        let SourceEntry { entry: EntryRef { directory, name }, stat, .. } = source;
        if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
            // Something else was listed here, and a file has taken its place.
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
            Attributes::read(InodeRef::Named(&from, name), *stat).map_err(EntryError::Source)?;
        let Ok(theirs) = Attributes::read(InodeRef::Named(to, name), *there) else {
            return Ok(false);
        };
        if !ours.same_as(&theirs) {
            let note = &mut |what| self.report_not_representable(source.entry, what);
            ours.apply(InodeRef::Named(to, name), true, note)
                .map_err(|why| EntryError::Target("setting attributes of", why))?;
            self.changed.fetch_add(1, Ordering::Relaxed);
        }
        self.check_after_copy(source.entry, stat, stat);
        Ok(true)
    }

    /// Replaces an entry of the target by what `fill` creates under a temporary name. The first
    /// copy into a new file system has nothing to protect, and perhaps no room for both, so it
    /// removes the old entry first.
    pub(super) fn replace(
        &self,
        TargetDirectory { id, fd: to }: TargetDirectory<'_>,
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
        let replaced = fill(&temporary).and_then(|()| {
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
        if replaced.is_err() {
            // If this fails, the next run removes it.
            let _ = rustix::fs::unlinkat(to, &*temporary, AtFlags::empty());
        }
        replaced
    }
}
