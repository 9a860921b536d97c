//! One entry that is no folder: opened, judged, made in the target.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::Trouble;
use super::content::{AHEAD, Content, read_ahead};
use super::engine::{Engine, Job};
use super::folders::Side;
use super::links::Name;
use super::metadata::{APPEND, Attributes, IMMUTABLE, Place, unlock};
use super::queue::lock;

/// Never follows, never waits (for a fifo that took the file's place), leaves no trace in the access time.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::NOATIME)
    .union(OFlags::CLOEXEC);

const CREATE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Engine<'_> {
    /// Looks at an entry and has it read ahead. `None`: there is nothing to do for it.
    pub(super) fn open(&self, mut job: Job) -> Option<Job> {
        if self.stopped() {
            return None;
        }
        match self.find(&job) {
            Ok(Some(found)) => {
                job.found = Some(found);
                return Some(job);
            }
            Ok(None) => {}
            Err(trouble) => self.trouble(job.folder, &job.name, trouble),
        }
        self.finish(job.folder);
        None
    }

    fn find(&self, job: &Job) -> Result<Option<(Stat, Option<OwnedFd>)>, Trouble> {
        let folder = self.folders.open(Side::Source, job.folder).map_err(Trouble::Source)?;
        let name: &CStr = &job.name;
        let look = || rustix::fs::statat(&*folder, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Trouble::Source);
        if self.since.is_some() {
            let stat = look()?;
            if self.unchanged(job, &stat)? {
                return Ok(None);
            }
        }
        if job.kind != FileType::RegularFile {
            return Ok(Some((look()?, None)));
        }
        let opened = match rustix::fs::openat(&*folder, name, READ, Mode::empty()) {
            Err(Errno::PERM) => rustix::fs::openat(&*folder, name, READ - OFlags::NOATIME, Mode::empty()),
            other => other,
        };
        let file = match opened {
            Ok(file) => file,
            // It is no regular file any more.
            Err(Errno::LOOP | Errno::NXIO) => return Ok(Some((look()?, None))),
            Err(why) => return Err(Trouble::Source(why)),
        };
        let stat = rustix::fs::fstat(&file).map_err(Trouble::Source)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(Some((stat, None)));
        }
        if stat.st_blocks > 0 {
            read_ahead(&file, 0, u64::try_from(stat.st_size).unwrap_or(0).min(AHEAD));
        }
        Ok(Some((stat, Some(file))))
    }

    /// Makes an entry in the target.
    pub(super) fn write(&self, job: Job, content: &mut Content<'_>) {
        let Job { folder, name, found, .. } = job;
        if let Some((stat, file)) = found
            && !self.stopped()
        {
            let place = (folder, &*name);
            let written = if stat.st_nlink > 1 {
                self.name(place, &stat, file.as_ref(), content)
            } else {
                self.inode(place, &stat, file.as_ref(), content)
            };
            match written {
                Ok(()) => {
                    self.files.fetch_add(1, Ordering::Relaxed);
                }
                Err(trouble) => self.trouble(folder, &name, trouble),
            }
        }
        self.finish(folder);
    }

    /// One of several names of an inode.
    fn name(
        &self,
        place: (u32, &CStr),
        stat: &Stat,
        file: Option<&OwnedFd>,
        content: &mut Content<'_>,
    ) -> Result<(), Trouble> {
        let inode = (stat.st_dev, stat.st_ino);
        match self.links.meet(inode, stat.st_nlink) {
            Name::First => {
                let made = self.inode(place, stat, file, content);
                self.links.copied(inode, made.is_ok().then_some(place));
                made
            }
            Name::Further(folder, first) => {
                let opening = |why| Trouble::Target("opening the folder of", why);
                let from = self.folders.open(Side::Target, folder).map_err(opening)?;
                let to = self.folders.open(Side::Target, place.0).map_err(opening)?;
                self.make(&to, place.1, false, || {
                    rustix::fs::linkat(&*from, &*first, &*to, place.1, AtFlags::empty())
                })?;
                self.hard_links.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Name::Lost => Err(Trouble::Source(Errno::IO)),
        }
    }

    /// The inode itself, under its first or only name.
    fn inode(
        &self,
        (folder, name): (u32, &CStr),
        stat: &Stat,
        file: Option<&OwnedFd>,
        content: &mut Content<'_>,
    ) -> Result<(), Trouble> {
        let to = self
            .folders
            .open(Side::Target, folder)
            .map_err(|why| Trouble::Target("opening the folder of", why))?;
        match file {
            Some(file) => {
                let made = self.file((folder, name), stat, file, &to, content);
                if matches!(made, Err(Trouble::Source(_) | Trouble::Stopped)) {
                    // Half a file is worse than none; if even that fails, the report says it is lost.
                    let _ = rustix::fs::unlinkat(&*to, name, AtFlags::empty());
                }
                made
            }
            None => self.special((folder, name), stat, &to),
        }
    }

    fn file(
        &self,
        (folder, name): (u32, &CStr),
        stat: &Stat,
        source: &OwnedFd,
        to: &OwnedFd,
        content: &mut Content<'_>,
    ) -> Result<(), Trouble> {
        let attributes = Attributes::read(Place::Open(source), *stat).map_err(Trouble::Source)?;
        let mode = Mode::RUSR | Mode::WUSR;
        let target = self.make(to, name, false, || rustix::fs::openat(to, name, CREATE, mode))?;
        let mut note = |what| self.note(folder, name, what);
        attributes.apply_early(&target).unwrap_or_else(&mut note);
        content.copy(source, &target, stat)?;
        attributes
            .apply(Place::Open(&target), false, &mut note)
            .map_err(|why| Trouble::Target("setting attributes of", why))?;
        if stat.st_nlink > 1 && attributes.flags & (IMMUTABLE | APPEND) != 0 {
            lock(&self.locked).push((folder, name.to_owned(), attributes));
        } else {
            attributes.apply_late(&target, false).unwrap_or_else(note);
        }
        let after = rustix::fs::fstat(source).map_err(Trouble::Source)?;
        self.compare_after((folder, name), stat, &after);
        Ok(())
    }

    /// Links, devices, fifos and sockets.
    fn special(&self, (folder, name): (u32, &CStr), stat: &Stat, to: &OwnedFd) -> Result<(), Trouble> {
        let from = self.folders.open(Side::Source, folder).map_err(Trouble::Source)?;
        let attributes = Attributes::read(Place::Named(&from, name), *stat).map_err(Trouble::Source)?;
        let kind = attributes.kind();
        match kind {
            FileType::Symlink => {
                let text = rustix::fs::readlinkat(&*from, name, Vec::new()).map_err(Trouble::Source)?;
                self.make(to, name, false, || rustix::fs::symlinkat(&*text, to, name))?;
            }
            // A folder or file took its place since it was listed: the second pass finds it.
            FileType::Directory | FileType::RegularFile | FileType::Unknown => {
                return Err(Trouble::Source(Errno::NOENT));
            }
            kind => {
                let node = || rustix::fs::mknodat(to, name, kind, Mode::RUSR | Mode::WUSR, stat.st_rdev);
                self.make(to, name, false, node)?;
            }
        }
        attributes
            .apply(Place::Named(to, name), false, &mut |what| self.note(folder, name, what))
            .map_err(|why| Trouble::Target("setting attributes of", why))?;
        self.compare_after((folder, name), stat, stat);
        Ok(())
    }

    /// Makes something under a name; what is there already goes. `folder`: one that exists is welcome.
    pub(super) fn make<T>(
        &self,
        to: &OwnedFd,
        name: &CStr,
        folder: bool,
        make: impl Fn() -> Result<T, Errno>,
    ) -> Result<T, Trouble> {
        let doing = if folder { "making the folder" } else { "making" };
        match make() {
            Err(Errno::EXIST) => {
                super::again::remove(to, name).map_err(|why| Trouble::Target("replacing", why))?;
                make().map_err(|why| Trouble::Target(doing, why))
            }
            made => made.map_err(|why| Trouble::Target(doing, why)),
        }
    }

    /// Sets the flags that would have kept further names from being made.
    pub(super) fn lock_files(&self) -> crate::error::Result<()> {
        for (folder, name, attributes) in lock(&self.locked).drain(..) {
            let opened = self
                .folders
                .open(Side::Target, folder)
                .and_then(|to| rustix::fs::openat(to.as_fd(), &*name, READ, Mode::empty()));
            match opened {
                Ok(file) => {
                    attributes.apply_late(&file, false).unwrap_or_else(|what| self.note(folder, &name, what))
                }
                Err(why) => {
                    let path = self.folders.path_buf(folder, &name);
                    return Err(super::target_error(self.request.target, &path, "setting flags of", why));
                }
            }
        }
        Ok(())
    }
}

/// Lifts immutable and append-only from something that must go.
pub(super) fn unlock_named(folder: &OwnedFd, name: &CStr) {
    if let Ok(file) = rustix::fs::openat(folder, name, READ, Mode::empty()) {
        unlock(&file);
    }
}
