//! One entry that is not a directory: opened, and created in the target.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::engine::{
    Engine, Job, LinkRole, LockedFile, OpenedEntry, TargetDirectory, UnlinkedName, target_error,
};
use super::prune::clear;
use crate::inode_flags::{APPEND, EARLY, IMMUTABLE, SETTABLE, set_flags, unlock};
use crate::tree::content::{AHEAD, ContentCopier, read_ahead};
use crate::tree::directories::{InodeId, Side};
use crate::tree::entry::{EntryName, EntryRef};
use crate::tree::entry_error::EntryError;
use crate::tree::links::{FirstName, LinkAction, Links};
use crate::tree::metadata::Attributes;
use crate::tree::queue::lock;
use crate::tree::xattr::InodeRef;

/// Opens a file for reading without following a symlink, without blocking on a fifo that has taken
/// the file's place, and without changing the access time.
pub const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC);

const CREATE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// An entry of the source, as an opener found it.
#[derive(Clone, Copy, Debug)]
pub struct SourceEntry<'a> {
    /// The entry.
    pub entry: EntryRef<'a>,
    /// Its inode.
    pub stat: &'a Stat,
    /// The open file, if it is a regular file.
    pub file: Option<&'a OwnedFd>,
}

impl Engine<'_> {
    /// Opens an entry and starts reading it ahead. Returns `None` if there is nothing more to do
    /// for it.
    pub(super) fn open(&self, mut job: Job) -> Option<Job> {
        if self.stopped() {
            return None;
        }
        match self.open_source(&job) {
            Ok(opened) => {
                job.opened = Some(opened);
                return Some(job);
            }
            Err(error) => self.handle_error(job.entry.by_ref(), error),
        }
        self.finish(job.entry.directory, 1);
        None
    }

    fn open_source(&self, job: &Job) -> Result<OpenedEntry, EntryError> {
        let EntryName { directory, name } = &job.entry;
        let directory =
            self.directories.open(Side::Source, *directory).map_err(EntryError::Source)?;
        let name: &CStr = name;
        let without_file = || {
            rustix::fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat| OpenedEntry { stat, file: None })
                .map_err(EntryError::Source)
        };
        if job.kind != FileType::RegularFile {
            return without_file();
        }
        let opened = match rustix::fs::openat(&*directory, name, READ, Mode::empty()) {
            Err(Errno::PERM) => {
                rustix::fs::openat(&*directory, name, READ - OFlags::NOATIME, Mode::empty())
            }
            other => other,
        };
        let file = match opened {
            Ok(file) => file,
            // It is no longer a regular file.
            Err(Errno::LOOP | Errno::NXIO) => return without_file(),
            Err(why) => return Err(EntryError::Source(why)),
        };
        let stat = rustix::fs::fstat(&file).map_err(EntryError::Source)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(OpenedEntry { stat, file: None });
        }
        if stat.st_blocks > 0 {
            read_ahead(&file, 0, u64::try_from(stat.st_size).unwrap_or(0).min(AHEAD));
        }
        Ok(OpenedEntry { stat, file: Some(file) })
    }

    /// Writes an opened entry to the target.
    pub(super) fn write(&self, job: Job, content: &mut ContentCopier<'_>) {
        let Job { entry, role, opened, .. } = job;
        if let Some(OpenedEntry { stat, file }) = opened
            && !self.stopped()
        {
            let source = SourceEntry { entry: entry.by_ref(), stat: &stat, file: file.as_ref() };
            let written = if stat.st_nlink > 1 {
                self.write_linked(source, role, content)
            } else {
                self.make_equal(source, false, content).map(|_| true)
            };
            match written {
                Ok(true) => {
                    self.files.fetch_add(1, Ordering::Relaxed);
                }
                // The thread that settles the first name links this one, and finishes it.
                Ok(false) => return,
                Err(error) => self.handle_error(entry.by_ref(), error),
            }
        }
        self.finish(entry.directory, 1);
    }

    /// Writes one of several names of an inode. Returns false if the name was deferred.
    fn write_linked(
        &self,
        source: SourceEntry<'_>,
        role: LinkRole,
        content: &mut ContentCopier<'_>,
    ) -> Result<bool, EntryError> {
        let entry = source.entry;
        let inode = InodeId::of(source.stat);
        let foreign = matches!(role, LinkRole::First);
        let action = match role {
            LinkRole::Unknown => self.links.register(inode, source.stat.st_nlink, entry),
            LinkRole::First => LinkAction::Create,
            LinkRole::Additional(first) => LinkAction::LinkTo(first),
            LinkRole::Lost => LinkAction::Lost,
        };
        match action {
            LinkAction::Create => {
                self.make_first(source, foreign, content, Links::settle).map(|()| true)
            }
            LinkAction::LinkTo(first) => self.link_or_begin(source, first, content),
            LinkAction::Defer => Ok(false),
            LinkAction::Lost => Err(EntryError::Source(Errno::IO)),
        }
    }

    /// Links a name to its inode. When that has as many names as the target's file system allows,
    /// a further inode with the same content begins, and gets the names after it. Returns false if
    /// the name was deferred.
    fn link_or_begin(
        &self,
        source: SourceEntry<'_>,
        mut first: FirstName,
        content: &mut ContentCopier<'_>,
    ) -> Result<bool, EntryError> {
        let inode = InodeId::of(source.stat);
        loop {
            match self.link(source.entry, &first) {
                Err(EntryError::Target(_, Errno::MLINK)) => {}
                linked => return linked.map(|()| true),
            }
            match self.links.register_further(inode, &first, source.entry) {
                LinkAction::LinkTo(further) => first = further,
                LinkAction::Defer => return Ok(false),
                LinkAction::Lost => return Err(EntryError::Source(Errno::IO)),
                LinkAction::Create => break,
            }
        }
        self.make_first(source, false, content, Links::settle_further)?;
        // The second pass finds the same again.
        if self.first_pass.is_none() {
            self.remark(
                source.entry,
                "its inode has more names than the target's file system allows: from here on they \
                are those of a second copy",
            );
        }
        Ok(true)
    }

    /// Makes an inode with its first name, and links the names that were deferred meanwhile.
    /// `settle` takes them from the table of links, also after a failure.
    fn make_first(
        &self,
        source: SourceEntry<'_>,
        foreign: bool,
        content: &mut ContentCopier<'_>,
        settle: fn(&Links, InodeId, Option<&FirstName>) -> Vec<EntryName>,
    ) -> Result<(), EntryError> {
        let made = self.make_equal(source, foreign, content);
        let first = made
            .as_ref()
            .ok()
            .map(|inode| FirstName { entry: source.entry.to_entry_name(), inode: *inode });
        let deferred = settle(&self.links, InodeId::of(source.stat), first.as_ref());
        self.link_deferred(deferred, first.as_ref());
        made.map(|_| ())
    }

    /// Links the names that found their inode full while they were linked by the thread that had
    /// created it. No other thread works any more.
    pub(super) fn link_remaining(&self) {
        let remaining = std::mem::take(&mut *lock(&self.unlinked));
        if remaining.is_empty() {
            return;
        }
        let stop = || self.stopped();
        let moved = |bytes| {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        };
        let mut content = ContentCopier::new(&self.abilities, &stop, &moved);
        for UnlinkedName { entry, full } in remaining {
            let listed = self.directories.open(Side::Source, entry.directory).and_then(|from| {
                rustix::fs::statat(&*from, &*entry.name, AtFlags::SYMLINK_NOFOLLOW)
            });
            // If it is gone, opening it says so.
            let kind =
                listed.map_or(FileType::RegularFile, |stat| FileType::from_raw_mode(stat.st_mode));
            let role = LinkRole::Additional(full);
            if let Some(job) = self.open(Job { entry, kind, role, opened: None }) {
                self.write(job, &mut content);
            }
        }
    }

    /// Links the names that were found while their first name was being created.
    pub(super) fn link_deferred(&self, deferred: Vec<EntryName>, first: Option<&FirstName>) {
        for entry in deferred {
            let linked = match first {
                Some(first) => self.link(entry.by_ref(), first),
                None => Err(EntryError::Source(Errno::IO)),
            };
            match (linked, first) {
                (Ok(()), _) => {
                    self.files.fetch_add(1, Ordering::Relaxed);
                }
                // It is not open, so a further inode cannot begin here.
                (Err(EntryError::Target(_, Errno::MLINK)), Some(full)) => {
                    lock(&self.unlinked).push(UnlinkedName { entry, full: full.clone() });
                    continue;
                }
                (Err(error), _) => self.handle_error(entry.by_ref(), error),
            }
            self.finish(entry.directory, 1);
        }
    }

    /// Makes an entry an additional name of an inode of the target.
    fn link(&self, entry: EntryRef<'_>, first: &FirstName) -> Result<(), EntryError> {
        let EntryRef { directory, name } = entry;
        let opening = |why| EntryError::Target("opening the directory of", why);
        let from = self.directories.open(Side::Target, first.entry.directory).map_err(opening)?;
        let to = self.directories.open(Side::Target, directory).map_err(opening)?;
        let to = TargetDirectory { id: directory, fd: &to };
        let link = |under: &CStr| {
            let link =
                || rustix::fs::linkat(&*from, &*first.entry.name, to.fd, under, AtFlags::empty());
            match link() {
                // The inode was equal and is immutable. The flag is set again at the end.
                Err(Errno::PERM) => {
                    self.unlock_for_links(first, &from);
                    link()
                }
                other => other,
            }
        };
        if self.is_fresh() {
            self.create(to, name, false, || link(name))?;
        } else {
            match rustix::fs::statat(to.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if there.st_ino == first.inode => return Ok(()),
                Ok(there) => self.replace(to, name, &there, |under| {
                    self.create(to, under, false, || link(under))
                })?,
                Err(_) => self.create(to, name, false, || link(name))?,
            }
        }
        self.changed.fetch_add(1, Ordering::Relaxed);
        self.hard_links.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn unlock_for_links(&self, first: &FirstName, from: &OwnedFd) {
        if let Ok(file) = rustix::fs::openat(from, &*first.entry.name, READ, Mode::empty())
            && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
            && unlock(&file)
        {
            let flags = flags.bits() & SETTABLE & !EARLY;
            lock(&self.locked).push(LockedFile { entry: first.entry.clone(), flags });
        }
    }

    /// Creates the inode itself under its first or only name, where the target has nothing, or
    /// something that is to be `replaced`. Returns its inode number in the target.
    pub(super) fn create_inode(
        &self,
        source: SourceEntry<'_>,
        to: &OwnedFd,
        replaced: Option<&Stat>,
        content: &mut ContentCopier<'_>,
    ) -> Result<u64, EntryError> {
        let SourceEntry { entry: EntryRef { directory, name }, stat, file } = source;
        let to = TargetDirectory { id: directory, fd: to };
        let attributes = match file {
            Some(file) => Attributes::read(InodeRef::Open(file), *stat),
            None => {
                let from =
                    self.directories.open(Side::Source, directory).map_err(EntryError::Source)?;
                Attributes::read(InodeRef::Named(&from, name), *stat)
            }
        };
        let attributes = attributes.map_err(EntryError::Source)?;
        let mut made = None;
        let mut fill = |under: &CStr| {
            match file {
                Some(file) => {
                    let filled = self.create_file(source, file, &attributes, to, under, content);
                    if filled.is_err() {
                        // Half a file is worse than none. If removing it fails as well, the first
                        // error is still the one to report.
                        let _ = rustix::fs::unlinkat(to.fd, under, AtFlags::empty());
                    }
                    made = Some(filled?);
                }
                None => self.create_special(source, &attributes, to, under)?,
            }
            Ok(())
        };
        match replaced {
            Some(there) => self.replace(to, name, there, fill)?,
            None => fill(name)?,
        }
        self.changed.fetch_add(1, Ordering::Relaxed);
        if let Some(target) = &made {
            self.set_late_flags(source, &attributes, target, false);
        }
        let after = file.map_or(Ok(*stat), rustix::fs::fstat).map_err(EntryError::Source)?;
        self.check_after_copy(source.entry, stat, &after);
        if self.is_fresh() || stat.st_nlink == 1 {
            return Ok(0);
        }
        let there = rustix::fs::statat(to.fd, name, AtFlags::SYMLINK_NOFOLLOW);
        there
            .map(|there| there.st_ino)
            .map_err(|why| EntryError::Target("reading the metadata of", why))
    }

    /// Sets the remaining flags, now, or at the end if they would keep other names of the file from
    /// being created.
    pub(super) fn set_late_flags(
        &self,
        source: SourceEntry<'_>,
        attributes: &Attributes,
        target: &OwnedFd,
        existed: bool,
    ) {
        let SourceEntry { entry, stat, .. } = source;
        if stat.st_nlink > 1 && attributes.flags & (IMMUTABLE | APPEND) != 0 {
            let flags = attributes.flags & !EARLY;
            lock(&self.locked).push(LockedFile { entry: entry.to_entry_name(), flags });
        } else {
            attributes
                .apply_late(target, existed)
                .unwrap_or_else(|what| self.report_not_representable(entry, what));
        }
    }

    fn create_file(
        &self,
        SourceEntry { entry, stat, .. }: SourceEntry<'_>,
        source: &OwnedFd,
        attributes: &Attributes,
        to: TargetDirectory<'_>,
        under: &CStr,
        content: &mut ContentCopier<'_>,
    ) -> Result<OwnedFd, EntryError> {
        let mode = Mode::RUSR | Mode::WUSR;
        let target =
            self.create(to, under, false, || rustix::fs::openat(to.fd, under, CREATE, mode))?;
        let mut note = |what| self.report_not_representable(entry, what);
        attributes.apply_early(&target, false).unwrap_or_else(&mut note);
        content.copy(source, &target, stat)?;
        attributes
            .apply(InodeRef::Open(&target), false, &mut note)
            .map_err(|why| EntryError::Target("setting attributes of", why))?;
        Ok(target)
    }

    /// Creates a symlink, device, fifo or socket.
    fn create_special(
        &self,
        SourceEntry { entry, stat, .. }: SourceEntry<'_>,
        attributes: &Attributes,
        to: TargetDirectory<'_>,
        under: &CStr,
    ) -> Result<(), EntryError> {
        match attributes.kind() {
            FileType::Symlink => {
                let from = self
                    .directories
                    .open(Side::Source, entry.directory)
                    .map_err(EntryError::Source)?;
                let text = rustix::fs::readlinkat(&*from, entry.name, Vec::new())
                    .map_err(EntryError::Source)?;
                self.create(to, under, false, || rustix::fs::symlinkat(&*text, to.fd, under))?;
            }
            // It was replaced by a directory or file since it was listed. The second pass finds
            // that.
            FileType::Directory | FileType::RegularFile | FileType::Unknown => {
                return Err(EntryError::Source(Errno::NOENT));
            }
            kind => {
                let mode = Mode::RUSR | Mode::WUSR;
                let node = || rustix::fs::mknodat(to.fd, under, kind, mode, stat.st_rdev);
                self.create(to, under, false, node)?;
            }
        }
        let mut note = |what| self.report_not_representable(entry, what);
        attributes
            .apply(InodeRef::Named(to.fd, under), false, &mut note)
            .map_err(|why| EntryError::Target("setting attributes of", why))
    }

    /// Creates something in a directory of the target by calling `create`, which is tried again
    /// once what was in the way has been removed. `is_directory` is for the error message only.
    pub(super) fn create<T>(
        &self,
        to: TargetDirectory<'_>,
        name: &CStr,
        is_directory: bool,
        create: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, EntryError> {
        let doing = if is_directory { "making the directory" } else { "making" };
        let mut created = create();
        if matches!(created, Err(Errno::PERM)) && unlock(to.fd) {
            created = create();
        }
        if matches!(created, Err(Errno::EXIST)) {
            clear(to.fd, name).map_err(|why| EntryError::Target("replacing", why))?;
            created = create();
        }
        if !self.is_fresh() && created.is_ok() {
            self.touch(to.id);
        }
        created.map_err(|why| EntryError::Target(doing, why))
    }

    /// Sets the flags that would have kept other names of files from being created.
    pub(super) fn lock_files(&self) -> crate::error::Result<()> {
        for LockedFile { entry, flags } in lock(&self.locked).drain(..) {
            let opened = self
                .directories
                .open(Side::Target, entry.directory)
                .and_then(|to| rustix::fs::openat(to.as_fd(), &*entry.name, READ, Mode::empty()));
            match opened {
                Ok(file) => set_flags(&file, flags, SETTABLE & !EARLY)
                    .unwrap_or_else(|what| self.report_not_representable(entry.by_ref(), what)),
                Err(why) => {
                    let path = self.path_of(entry.by_ref());
                    return Err(target_error(self.request.target, &path, "setting flags of", why));
                }
            }
        }
        Ok(())
    }
}
