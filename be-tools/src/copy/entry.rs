//! One entry that is no directory: opened, judged, made in the target.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::engine::{Engine, Job, Role, target_error};
use super::prune::clear;
use crate::inode_flags::{APPEND, EARLY, IMMUTABLE, SETTABLE, set_flags, unlock};
use crate::tree::content::{AHEAD, Content, read_ahead};
use crate::tree::directories::{Id, Side};
use crate::tree::entry_error::EntryError;
use crate::tree::links::{First, Meeting, Name};
use crate::tree::metadata::Attributes;
use crate::tree::queue::lock;
use crate::tree::xattr::Place;

/// Never follows, never waits (for a fifo that took the file's place), leaves no trace in the
/// access time.
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

/// An entry of the source, as the openers found it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The directory it is in.
    pub directory: Id,
    /// Its name.
    pub name: &'a CStr,
    /// Its inode.
    pub stat: &'a Stat,
    /// Its content, if it is a regular file.
    pub file: Option<&'a OwnedFd>,
}

impl Engine<'_> {
    /// Looks at an entry and has it read ahead. `None`: there is nothing to do for it.
    pub(super) fn open(&self, mut job: Job) -> Option<Job> {
        if self.stopped() {
            return None;
        }
        match self.find(&job) {
            Ok(found) => {
                job.found = Some(found);
                return Some(job);
            }
            Err(trouble) => self.trouble(job.directory, &job.name, trouble),
        }
        self.finish(job.directory, 1);
        None
    }

    fn find(&self, job: &Job) -> Result<(Stat, Option<OwnedFd>), EntryError> {
        let directory =
            self.directories.open(Side::Source, job.directory).map_err(EntryError::Source)?;
        let name: &CStr = &job.name;
        let look = || {
            rustix::fs::statat(&*directory, name, AtFlags::SYMLINK_NOFOLLOW)
                .map_err(EntryError::Source)
        };
        if job.kind != FileType::RegularFile {
            return Ok((look()?, None));
        }
        let opened = match rustix::fs::openat(&*directory, name, READ, Mode::empty()) {
            Err(Errno::PERM) => {
                rustix::fs::openat(&*directory, name, READ - OFlags::NOATIME, Mode::empty())
            }
            other => other,
        };
        let file = match opened {
            Ok(file) => file,
            // It is no regular file any more.
            Err(Errno::LOOP | Errno::NXIO) => return Ok((look()?, None)),
            Err(why) => return Err(EntryError::Source(why)),
        };
        let stat = rustix::fs::fstat(&file).map_err(EntryError::Source)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok((stat, None));
        }
        if stat.st_blocks > 0 {
            read_ahead(&file, 0, u64::try_from(stat.st_size).unwrap_or(0).min(AHEAD));
        }
        Ok((stat, Some(file)))
    }

    /// Makes an entry in the target.
    pub(super) fn write(&self, job: Job, content: &mut Content<'_>) {
        let Job { directory, name, role, found, .. } = job;
        if let Some((stat, file)) = found
            && !self.stopped()
        {
            let subject = Subject { directory, name: &name, stat: &stat, file: file.as_ref() };
            let written = if stat.st_nlink > 1 {
                self.name(subject, role, content)
            } else {
                self.make_equal(subject, false, content).map(|_| true)
            };
            match written {
                Ok(true) => {
                    self.files.fetch_add(1, Ordering::Relaxed);
                }
                // Whoever settles the first name links it, and finishes it.
                Ok(false) => return,
                Err(trouble) => self.trouble(directory, &name, trouble),
            }
        }
        self.finish(directory, 1);
    }

    /// One of several names of an inode. False: it is parked.
    fn name(
        &self,
        subject: Subject<'_>,
        role: Role,
        content: &mut Content<'_>,
    ) -> Result<bool, EntryError> {
        let place = (subject.directory, subject.name);
        let inode = (subject.stat.st_dev, subject.stat.st_ino);
        let foreign = matches!(role, Role::First);
        let meeting = match role {
            Role::Unmet => self.links.meet(inode, subject.stat.st_nlink, place),
            Role::First => Meeting::First,
            Role::Further(first) => Meeting::Further(first),
            Role::Lost => Meeting::Lost,
        };
        match meeting {
            Meeting::First => {
                let made = self.make_equal(subject, foreign, content);
                let first = made.as_ref().ok().map(|there| (place, *there));
                let early = self.links.settle(inode, first);
                let first = first.map(|((directory, name), inode)| First {
                    name: (directory, name.to_owned()),
                    inode,
                });
                self.link_early(early, first.as_ref());
                made.map(|_| true)
            }
            Meeting::Further(first) => self.link(place, &first).map(|()| true),
            Meeting::Parked => Ok(false),
            Meeting::Lost => Err(EntryError::Source(Errno::IO)),
        }
    }

    /// Links the names that were met while their first one was made.
    pub(super) fn link_early(&self, early: Vec<Name>, first: Option<&First>) {
        for (directory, name) in early {
            let linked = match first {
                Some(first) => self.link((directory, &name), first),
                None => Err(EntryError::Source(Errno::IO)),
            };
            match linked {
                Ok(()) => {
                    self.files.fetch_add(1, Ordering::Relaxed);
                }
                Err(trouble) => self.trouble(directory, &name, trouble),
            }
            self.finish(directory, 1);
        }
    }

    /// Makes a further name of an inode of the target.
    fn link(&self, (directory, name): (Id, &CStr), first: &First) -> Result<(), EntryError> {
        let opening = |why| EntryError::Target("opening the directory of", why);
        let from = self.directories.open(Side::Target, first.name.0).map_err(opening)?;
        let to = self.directories.open(Side::Target, directory).map_err(opening)?;
        let link = |under: &CStr| {
            let link = || rustix::fs::linkat(&*from, &*first.name.1, &*to, under, AtFlags::empty());
            match link() {
                // An inode that was equal, and is immutable: it is that again at the end.
                Err(Errno::PERM) => {
                    self.unlock_for_links(first, &from);
                    link()
                }
                other => other,
            }
        };
        if self.is_fresh() {
            self.make((directory, &to), name, false, || link(name))?;
        } else {
            match rustix::fs::statat(&*to, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(there) if there.st_ino == first.inode => return Ok(()),
                Ok(there) => self.replace((directory, &to), name, &there, |under| {
                    self.make((directory, &to), under, false, || link(under))
                })?,
                Err(_) => self.make((directory, &to), name, false, || link(name))?,
            }
        }
        self.changed.fetch_add(1, Ordering::Relaxed);
        self.hard_links.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn unlock_for_links(&self, First { name: (directory, name), .. }: &First, from: &OwnedFd) {
        if let Ok(file) = rustix::fs::openat(from, &**name, READ, Mode::empty())
            && let Ok(flags) = rustix::fs::ioctl_getflags(&file)
            && unlock(&file)
        {
            lock(&self.locked).push((*directory, name.clone(), flags.bits() & SETTABLE & !EARLY));
        }
    }

    /// The inode itself, under its first or only name, where the target has nothing or something
    /// that is `replaced`. Returns its number there.
    pub(super) fn inode(
        &self,
        subject: Subject<'_>,
        to: &OwnedFd,
        replaced: Option<&Stat>,
        content: &mut Content<'_>,
    ) -> Result<u64, EntryError> {
        let Subject { directory, name, stat, file } = subject;
        let attributes = match file {
            Some(file) => Attributes::read(Place::Open(file), *stat),
            None => {
                let from =
                    self.directories.open(Side::Source, directory).map_err(EntryError::Source)?;
                Attributes::read(Place::Named(&from, name), *stat)
            }
        };
        let attributes = attributes.map_err(EntryError::Source)?;
        let mut made = None;
        let mut fill = |under: &CStr| {
            match file {
                Some(file) => {
                    let filled = self.file(subject, file, &attributes, (to, under), content);
                    if filled.is_err() {
                        // Half a file is worse than none; if even that fails, the report says what
                        // is wrong.
                        let _ = rustix::fs::unlinkat(to, under, AtFlags::empty());
                    }
                    made = Some(filled?);
                }
                None => self.special(subject, &attributes, (to, under))?,
            }
            Ok(())
        };
        match replaced {
            Some(there) => self.replace((directory, to), name, there, fill)?,
            None => fill(name)?,
        }
        self.changed.fetch_add(1, Ordering::Relaxed);
        if let Some(target) = &made {
            self.lock_late(subject, &attributes, target, false);
        }
        let after = file.map_or(Ok(*stat), rustix::fs::fstat).map_err(EntryError::Source)?;
        self.compare_after((directory, name), stat, &after);
        if self.is_fresh() || stat.st_nlink == 1 {
            return Ok(0);
        }
        let there = rustix::fs::statat(to, name, AtFlags::SYMLINK_NOFOLLOW);
        there.map(|there| there.st_ino).map_err(|why| EntryError::Target("looking at", why))
    }

    /// Sets the last flags now, or at the end where they would forbid further names.
    pub(super) fn lock_late(
        &self,
        subject: Subject<'_>,
        attributes: &Attributes,
        target: &OwnedFd,
        existed: bool,
    ) {
        let Subject { directory, name, stat, .. } = subject;
        if stat.st_nlink > 1 && attributes.flags & (IMMUTABLE | APPEND) != 0 {
            lock(&self.locked).push((directory, name.to_owned(), attributes.flags & !EARLY));
        } else {
            attributes
                .apply_late(target, existed)
                .unwrap_or_else(|what| self.note(directory, name, what));
        }
    }

    fn file(
        &self,
        subject: Subject<'_>,
        source: &OwnedFd,
        attributes: &Attributes,
        (to, under): (&OwnedFd, &CStr),
        content: &mut Content<'_>,
    ) -> Result<OwnedFd, EntryError> {
        let Subject { directory, name, stat, .. } = subject;
        let mode = Mode::RUSR | Mode::WUSR;
        let target = self
            .make((directory, to), under, false, || rustix::fs::openat(to, under, CREATE, mode))?;
        let mut note = |what| self.note(directory, name, what);
        attributes.apply_early(&target, false).unwrap_or_else(&mut note);
        content.copy(source, &target, stat)?;
        attributes
            .apply(Place::Open(&target), false, &mut note)
            .map_err(|why| EntryError::Target("setting attributes of", why))?;
        Ok(target)
    }

    /// Links, devices, fifos and sockets.
    fn special(
        &self,
        subject: Subject<'_>,
        attributes: &Attributes,
        (to, under): (&OwnedFd, &CStr),
    ) -> Result<(), EntryError> {
        let Subject { directory, name, stat, .. } = subject;
        match attributes.kind() {
            FileType::Symlink => {
                let from =
                    self.directories.open(Side::Source, directory).map_err(EntryError::Source)?;
                let text =
                    rustix::fs::readlinkat(&*from, name, Vec::new()).map_err(EntryError::Source)?;
                self.make((directory, to), under, false, || {
                    rustix::fs::symlinkat(&*text, to, under)
                })?;
            }
            // A directory or file took its place since it was listed: the second pass finds it.
            FileType::Directory | FileType::RegularFile | FileType::Unknown => {
                return Err(EntryError::Source(Errno::NOENT));
            }
            kind => {
                let node =
                    || rustix::fs::mknodat(to, under, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev);
                self.make((directory, to), under, false, node)?;
            }
        }
        attributes
            .apply(Place::Named(to, under), false, &mut |what| self.note(directory, name, what))
            .map_err(|why| EntryError::Target("setting attributes of", why))
    }

    /// Makes something under a name; what is there already goes. `directory`: one that exists is
    /// welcome.
    pub(super) fn make<T>(
        &self,
        (id, to): (Id, &OwnedFd),
        name: &CStr,
        directory: bool,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, EntryError> {
        let doing = if directory { "making the directory" } else { "making" };
        let mut made = make();
        if matches!(made, Err(Errno::PERM)) && unlock(to) {
            made = make();
        }
        if matches!(made, Err(Errno::EXIST)) {
            clear(to, name).map_err(|why| EntryError::Target("replacing", why))?;
            made = make();
        }
        if !self.is_fresh() && made.is_ok() {
            self.touch(id);
        }
        made.map_err(|why| EntryError::Target(doing, why))
    }

    /// Sets the flags that would have kept further names from being made.
    pub(super) fn lock_files(&self) -> crate::error::Result<()> {
        for (directory, name, flags) in lock(&self.locked).drain(..) {
            let opened = self
                .directories
                .open(Side::Target, directory)
                .and_then(|to| rustix::fs::openat(to.as_fd(), &*name, READ, Mode::empty()));
            match opened {
                Ok(file) => set_flags(&file, flags, SETTABLE & !EARLY)
                    .unwrap_or_else(|what| self.note(directory, &name, what)),
                Err(why) => {
                    let path = self.directories.path_buf(directory, &name);
                    return Err(target_error(self.request.target, &path, "setting flags of", why));
                }
            }
        }
        Ok(())
    }
}
