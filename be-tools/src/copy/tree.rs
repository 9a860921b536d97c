//! The walker's listener: it makes the target's folders and hands everything else to the openers.

use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::fs::{AtFlags, FileType, Mode, Stat};
use rustix::io::Errno;

use super::Trouble;
use super::engine::{Engine, Job, Unfinished};
use super::exclude::Verdict;
use super::folders::{Id, ROOT, Side, open_in};
use super::metadata::{Attributes, Place, unlock};
use super::queue::{Queue, lock};
use super::walk::Sink;
use crate::error::{Error, Result};

/// Plants the tree of folders.
pub struct Planter<'a> {
    /// The walk.
    pub engine: &'a Engine<'a>,
    /// Where entries go.
    pub listed: &'a Queue<Job>,
}

impl Planter<'_> {
    /// Makes or finds the folder in the target: it, and whether it existed.
    fn plant(&self, parent: Id, name: &CStr) -> Result<(OwnedFd, bool), Trouble> {
        let above = self
            .engine
            .folders
            .open(Side::Target, parent)
            .map_err(|why| Trouble::Target("opening the folder of", why))?;
        let fresh = self.engine.make(&above, name, true, || {
            // Closed to others until its own mode is set, when it is complete.
            match rustix::fs::mkdirat(&*above, name, Mode::RWXU) {
                Err(Errno::EXIST) => match rustix::fs::statat(&*above, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => Ok(false),
                    _ => Err(Errno::EXIST),
                },
                made => made.map(|()| true),
            }
        })?;
        let folder = match open_in(&above, name) {
            // The target's own file systems may be mounted below it already.
            Err(Errno::XDEV) => rustix::fs::openat(&*above, name, super::folders::FOLDER, Mode::empty()),
            other => other,
        };
        let folder = folder.map_err(|why| Trouble::Target("opening", why))?;
        Ok((folder, !fresh))
    }

    fn begin(&self, id: Id, parent: Id, name: &CStr, source: &OwnedFd, stat: &Stat) -> Result<(), Trouble> {
        let attributes = Attributes::read(Place::Open(source), *stat).map_err(Trouble::Source)?;
        let engine = self.engine;
        let mut existed = true;
        if id == ROOT {
            let target =
                engine.folders.open(Side::Target, ROOT).map_err(|why| Trouble::Target("opening", why))?;
            unlock(&target);
        } else {
            let (target, found) = self.plant(parent, name)?;
            existed = found;
            if existed {
                unlock(&target);
            } else {
                attributes.apply_early(&target).unwrap_or_else(|what| engine.note(parent, name, what));
            }
            engine.folders.made(id, target).map_err(|why| Trouble::Target("opening", why))?;
        }
        let mut unfinished = lock(&engine.unfinished);
        let suspect = engine.since.is_some_and(|since| since.reached_by(stat))
            || (id != ROOT && unfinished.get(&parent).is_some_and(|above| above.suspect));
        unfinished.insert(id, Unfinished { attributes, existed, suspect });
        Ok(())
    }

    fn go_on(&self) -> Result<()> {
        if self.engine.stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

impl Sink for Planter<'_> {
    fn entry(&mut self, folder: Id, name: CString, kind: FileType) -> Result<()> {
        self.go_on()?;
        self.listed.push(Job { folder, name, kind, found: None });
        Ok(())
    }

    fn folder(&mut self, id: Id, parent: Id, name: &CStr, source: &OwnedFd, stat: &Stat) -> Result<bool> {
        self.go_on()?;
        if (stat.st_dev, stat.st_ino) == self.engine.folders.inode(Side::Target, ROOT) {
            return Ok(false);
        }
        self.engine.files.fetch_add(1, Ordering::Relaxed);
        match self.begin(id, parent, name, source, stat) {
            Ok(()) => Ok(true),
            Err(trouble) => {
                self.engine.trouble(parent, name, trouble);
                Ok(false)
            }
        }
    }

    fn mount_point(&mut self, parent: Id, name: &CStr, stat: &Stat) -> Result<()> {
        self.engine.files.fetch_add(1, Ordering::Relaxed);
        let attributes = Attributes { stat: *stat, xattrs: Vec::new(), flags: 0, project: (0, false) };
        let made = self.plant(parent, name).and_then(|(target, existed)| {
            attributes
                .apply(Place::Open(&target), existed, &mut |what| self.engine.note(parent, name, what))
                .map_err(|why| Trouble::Target("setting attributes of", why))
        });
        if let Err(trouble) = made {
            self.engine.trouble(parent, name, trouble);
        }
        self.engine.finish(parent);
        self.go_on()
    }

    fn listed(&mut self, folder: Id, verdict: Verdict) -> Result<()> {
        if verdict == Verdict::Copy
            && !self.engine.stopped()
            && let Err(trouble) = self.engine.prune(folder)
        {
            self.engine.trouble(folder, c"", trouble);
        }
        self.engine.finish(folder);
        self.go_on()
    }

    fn lost(&mut self, folder: Id, name: &CStr, why: Errno) -> Result<()> {
        self.engine.trouble(folder, name, Trouble::Source(why));
        if !name.is_empty() {
            self.engine.finish(folder);
        }
        self.go_on()
    }
}
