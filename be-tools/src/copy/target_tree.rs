//! The walker's listener: it makes the target's directories, has compared what is in both trees,
//! and hands everything else to the openers.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, Mode as Permissions, Stat};
use rustix::io::Errno;

use super::engine::{Engine, Job, Role, Unfinished};
use super::request::Mode;
use crate::error::{Error, Result};
use crate::inode_flags::unlock;
use crate::tree::directories::{DIRECTORY, Id, ROOT, Side, open_in};
use crate::tree::entry_error::EntryError;
use crate::tree::exclude::Verdict;
use crate::tree::metadata::Attributes;
use crate::tree::queue::{Queue, lock};
use crate::tree::walk::{Batch, Found, Sink};
use crate::tree::working_directory::Standpoint;
use crate::tree::xattr::Place;

/// Plants the tree of directories.
pub struct TargetTree<'a> {
    /// The walk.
    pub engine: &'a Engine<'a>,
    /// Where entries go.
    pub listed: &'a Queue<Job>,
}

/// A directory of the target.
pub struct Planted {
    /// It was there before, so there is something to compare.
    existed: bool,
}

impl TargetTree<'_> {
    /// Makes or finds the directory in the target: it, and whether it existed.
    fn plant(&self, parent: Id, name: &CStr) -> Result<(OwnedFd, bool), EntryError> {
        let engine = self.engine;
        let above = engine
            .directories
            .open(Side::Target, parent)
            .map_err(|why| EntryError::Target("opening the directory of", why))?;
        if !engine.is_fresh()
            && let Some(found) = enter(&above, name)?
        {
            return Ok((found, true));
        }
        let fresh = engine.make((parent, &above), name, true, || {
            // Closed to others until its own mode is set, when it is complete.
            match rustix::fs::mkdirat(&*above, name, Permissions::RWXU) {
                Err(Errno::EXIST) if matches!(enter(&above, name), Ok(Some(_))) => Ok(false),
                made => made.map(|()| true),
            }
        })?;
        let directory = enter(&above, name)?.ok_or(EntryError::Target("opening", Errno::NOENT))?;
        Ok((directory, !fresh))
    }

    fn begin(&self, found: Found<'_>) -> Result<bool, EntryError> {
        let Found { id, parent, name, source, stat } = found;
        let engine = self.engine;
        let attributes =
            Attributes::read(Place::Open(source), *stat).map_err(EntryError::Source)?;
        let opening = |why| EntryError::Target("opening", why);
        let (existed, touched) = if id == ROOT {
            let target = engine.directories.open(Side::Target, ROOT).map_err(opening)?;
            (true, self.differs(&attributes, &target)?)
        } else {
            let (target, existed) = self.plant(parent, name)?;
            let touched = !existed || self.differs(&attributes, &target)?;
            if !existed {
                let note = |what| engine.note(parent, name, what);
                attributes.apply_early(&target, false).unwrap_or_else(note);
            }
            let stat = rustix::fs::fstat(&target).map_err(opening)?;
            engine.directories.made(id, target, &stat);
            (existed, touched)
        };
        engine.changed.fetch_add(u64::from(touched), Ordering::Relaxed);
        let mut unfinished = lock(&engine.unfinished);
        let suspect = match (engine.since(), engine.request.mode) {
            (None, Mode::Fresh) => false,
            (None, Mode::Refresh(_)) => existed,
            (Some(since), _) => {
                since.reached_by(stat)
                    || (id != ROOT && unfinished.get(&parent).is_some_and(|above| above.suspect))
            }
        };
        unfinished.insert(id, Unfinished { attributes, existed, touched, suspect });
        Ok(existed)
    }

    /// The target's directory does not have these attributes.
    fn differs(&self, attributes: &Attributes, target: &OwnedFd) -> Result<bool, EntryError> {
        if self.engine.is_fresh() {
            unlock(target);
            return Ok(true);
        }
        let stat =
            rustix::fs::fstat(target).map_err(|why| EntryError::Target("looking at", why))?;
        let there = Attributes::read(Place::Open(target), stat)
            .map_err(|why| EntryError::Target("looking at", why))?;
        Ok(!attributes.same_as(&there))
    }

    fn go_on(&self) -> Result<()> {
        if self.engine.stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Opens a directory of the target; `None` if there is none, or something else.
fn enter(above: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, EntryError> {
    let opened = match open_in(above, name) {
        // The target's own file systems may be mounted below it already.
        Err(Errno::XDEV) => rustix::fs::openat(above, name, DIRECTORY, Permissions::empty()),
        other => other,
    };
    match opened {
        Ok(directory) => Ok(Some(directory)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(why) => Err(EntryError::Target("opening", why)),
    }
}

impl Sink for TargetTree<'_> {
    type Directory = Planted;

    fn directory(&self, found: Found<'_>) -> Result<Option<Planted>> {
        self.go_on()?;
        let (engine, stat) = (self.engine, found.stat);
        if (stat.st_dev, stat.st_ino) == engine.directories.inode(Side::Target, ROOT) {
            return Ok(None);
        }
        engine.files.fetch_add(1, Ordering::Relaxed);
        match self.begin(found) {
            Ok(existed) => Ok(Some(Planted { existed })),
            Err(trouble) => {
                engine.trouble(found.parent, found.name, trouble);
                Ok(None)
            }
        }
    }

    fn entries(
        &self,
        here: &mut Standpoint,
        directory: &Planted,
        place: (Id, &Arc<OwnedFd>, Verdict),
        batch: Batch,
    ) -> Result<()> {
        self.engine.found.fetch_add(batch.entries.len() as u64, Ordering::Relaxed);
        if directory.existed && !self.engine.is_fresh() {
            if let Err(trouble) = self.engine.compare(here, place, batch, self.listed) {
                self.engine.trouble(place.0, c"", trouble);
            }
            return self.go_on();
        }
        for entry in batch.entries.into_iter().filter(|entry| entry.kind != FileType::Directory) {
            self.go_on()?;
            self.listed.push(Job::new(place.0, entry, Role::Unmet));
        }
        Ok(())
    }

    fn mount_point(&self, parent: Id, name: &CStr, stat: &Stat) -> Result<()> {
        self.engine.files.fetch_add(1, Ordering::Relaxed);
        let attributes =
            Attributes { stat: *stat, xattrs: Vec::new(), flags: 0, project: (0, false) };
        let made = self.plant(parent, name).and_then(|(target, existed)| {
            if existed && !self.differs(&attributes, &target)? {
                return Ok(());
            }
            unlock(&target);
            attributes
                .apply(Place::Open(&target), existed, &mut |what| {
                    self.engine.note(parent, name, what)
                })
                .map_err(|why| EntryError::Target("setting attributes of", why))
        });
        if let Err(trouble) = made {
            self.engine.trouble(parent, name, trouble);
        }
        self.engine.finish(parent, 1);
        self.go_on()
    }

    fn listed(&self, directory: Id) -> Result<()> {
        self.engine.finish(directory, 1);
        self.go_on()
    }

    fn lost(&self, directory: Id, name: &CStr, why: Errno) -> Result<()> {
        self.engine.trouble(directory, name, EntryError::Source(why));
        if !name.is_empty() {
            self.engine.finish(directory, 1);
        }
        self.go_on()
    }
}
