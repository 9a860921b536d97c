//! Receives what the walk of the source finds: creates the target's directories, compares the
//! entries that both trees have, and hands everything else to the openers.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use rustix::fs::{FileType, Mode as Permissions, Stat};
use rustix::io::Errno;

use super::engine::{Engine, Job, LinkRole, PendingDirectory, TargetDirectory};
use super::request::Mode;
use crate::error::{Error, Result};
use crate::inode_flags::unlock;
use crate::tree::directories::{DIRECTORY, DirectoryId, InodeId, ROOT, Side, open_in};
use crate::tree::entry::EntryRef;
use crate::tree::entry_error::EntryError;
use crate::tree::fscrypt::is_locked;
use crate::tree::metadata::{Attributes, Project};
use crate::tree::queue::{Queue, lock};
use crate::tree::subvolume::make_writable;
use crate::tree::walk::{Batch, FoundDirectory, Sink, SourceDirectory};
use crate::tree::working_directory::WorkingDirectory;
use crate::tree::xattr::InodeRef;

/// The directories of the target.
pub struct TargetTree<'a> {
    /// The copy that fills it.
    pub engine: &'a Engine<'a>,
    /// Where entries are handed to the openers.
    pub listed: &'a Queue<Job>,
}

/// Whether the target had a directory before this copy. Then its entries are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum DirectoryOrigin {
    /// The target had it before.
    Existed,
    /// This copy created it.
    Created,
}

impl TargetTree<'_> {
    /// Opens a directory of the target, creating it if it is missing. Returns whether it existed.
    fn open_or_create(
        &self,
        parent: DirectoryId,
        name: &CStr,
    ) -> Result<(OwnedFd, bool), EntryError> {
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
        let to = TargetDirectory { id: parent, fd: &above };
        let created = engine.create(to, name, true, || {
            // Inaccessible to other users until it is complete and gets its own mode.
            match rustix::fs::mkdirat(&*above, name, Permissions::RWXU) {
                Err(Errno::EXIST) if matches!(enter(&above, name), Ok(Some(_))) => Ok(false),
                created => created.map(|()| true),
            }
        });
        let created = created.map_err(|error| match error {
            EntryError::Target(_, Errno::MLINK) => EntryError::Lost(
                "the directory that holds it has as many subdirectories as the target's file \
                system allows: choose another type for that, such as ext4 or xfs",
            ),
            other => other,
        })?;
        let directory = enter(&above, name)?.ok_or(EntryError::Target("opening", Errno::NOENT))?;
        Ok((directory, !created))
    }

    fn begin(&self, found: FoundDirectory<'_>) -> Result<DirectoryOrigin, EntryError> {
        let FoundDirectory { id, parent, name, source, stat } = found;
        let engine = self.engine;
        let attributes =
            Attributes::read(InodeRef::Open(source), *stat).map_err(EntryError::Source)?;
        if attributes.is_encrypted {
            self.check_encryption(found)?;
        }
        let opening = |why| EntryError::Target("opening", why);
        let (existed, touched) = if id == ROOT {
            let target = engine.directories.open(Side::Target, ROOT).map_err(opening)?;
            (true, self.differs(&attributes, &target)?)
        } else {
            let (target, existed) = self.open_or_create(parent, name)?;
            let touched = !existed || self.differs(&attributes, &target)?;
            if !existed {
                let entry = EntryRef { directory: parent, name };
                let note = |what| engine.report_not_representable(entry, what);
                attributes.apply_early(&target, false).unwrap_or_else(note);
            }
            let stat = rustix::fs::fstat(&target).map_err(opening)?;
            if existed {
                make_writable(&target, &stat)
                    .map_err(|why| EntryError::Target("making the subvolume writable at", why))?;
            }
            engine.directories.add_target(id, target, &stat);
            (existed, touched)
        };
        engine.changed.fetch_add(u64::from(touched), Ordering::Relaxed);
        let mut pending = lock(&engine.pending);
        let suspect = match (engine.since(), engine.request.mode) {
            (None, Mode::Fresh) => false,
            (None, Mode::Refresh(_)) => existed,
            (Some(since), _) => {
                since.reached_by(stat)
                    || (id != ROOT && pending.get(&parent).is_some_and(|above| above.suspect))
            }
        };
        pending.insert(id, PendingDirectory { attributes, existed, touched, suspect });
        Ok(if existed { DirectoryOrigin::Existed } else { DirectoryOrigin::Created })
    }

    /// Gives up an encrypted tree whose key is not there. Of one that can be read, it reports once
    /// that the copy is plain text.
    fn check_encryption(&self, found: FoundDirectory<'_>) -> Result<(), EntryError> {
        let engine = self.engine;
        let is_inside = found.id != ROOT
            && lock(&engine.pending)
                .get(&found.parent)
                .is_some_and(|above| above.attributes.is_encrypted);
        if is_inside {
            return Ok(());
        }
        if is_locked(found.source) {
            return Err(EntryError::Lost(
                "encrypted (fscrypt), no key: unlock it and run the command again, or leave it out \
                with --exclude",
            ));
        }
        if engine.first_pass.is_none() {
            let entry = EntryRef { directory: found.parent, name: found.name };
            engine.remark(entry, "encrypted in the source (fscrypt), plain text in the copy");
        }
        Ok(())
    }

    /// Whether the target's directory has other attributes than these.
    fn differs(&self, attributes: &Attributes, target: &OwnedFd) -> Result<bool, EntryError> {
        if self.engine.is_fresh() {
            unlock(target);
            return Ok(true);
        }
        let stat = rustix::fs::fstat(target)
            .map_err(|why| EntryError::Target("reading the metadata of", why))?;
        let there = Attributes::read(InodeRef::Open(target), stat)
            .map_err(|why| EntryError::Target("reading the metadata of", why))?;
        Ok(!attributes.same_as(&there))
    }

    fn check_stopped(&self) -> Result<()> {
        if self.engine.stopped() { Err(Error::Interrupted) } else { Ok(()) }
    }
}

/// Opens a directory of the target. Returns `None` if there is no entry of that name, or one that
/// is not a directory.
fn enter(above: &OwnedFd, name: &CStr) -> Result<Option<OwnedFd>, EntryError> {
    let opened = match open_in(above, name) {
        // The target's other file systems may already be mounted below this one.
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
    type Directory = DirectoryOrigin;

    fn directory(&self, found: FoundDirectory<'_>) -> Result<Option<DirectoryOrigin>> {
        self.check_stopped()?;
        let engine = self.engine;
        if InodeId::of(found.stat) == engine.directories.inode(Side::Target, ROOT) {
            return Ok(None);
        }
        engine.files.fetch_add(1, Ordering::Relaxed);
        match self.begin(found) {
            Ok(origin) => Ok(Some(origin)),
            Err(error) => {
                let entry = EntryRef { directory: found.parent, name: found.name };
                engine.handle_error(entry, error);
                Ok(None)
            }
        }
    }

    fn entries(
        &self,
        here: &mut WorkingDirectory,
        origin: &DirectoryOrigin,
        source: SourceDirectory<'_>,
        batch: Batch,
    ) -> Result<()> {
        self.engine.found.fetch_add(batch.entries.len() as u64, Ordering::Relaxed);
        if *origin == DirectoryOrigin::Existed && !self.engine.is_fresh() {
            if let Err(error) = self.engine.compare(here, source, batch, self.listed) {
                let directory = EntryRef { directory: source.id, name: c"" };
                self.engine.handle_error(directory, error);
            }
            return self.check_stopped();
        }
        for entry in batch.entries.into_iter().filter(|entry| entry.kind != FileType::Directory) {
            self.check_stopped()?;
            self.listed.push(Job::new(source.id, entry, LinkRole::Unknown));
        }
        Ok(())
    }

    fn mount_point(&self, parent: DirectoryId, name: &CStr, stat: &Stat) -> Result<()> {
        self.engine.files.fetch_add(1, Ordering::Relaxed);
        let entry = EntryRef { directory: parent, name };
        let attributes = Attributes {
            stat: *stat,
            xattrs: Vec::new(),
            flags: 0,
            is_encrypted: false,
            project: Project::default(),
        };
        let made = self.open_or_create(parent, name).and_then(|(target, existed)| {
            if existed && !self.differs(&attributes, &target)? {
                return Ok(());
            }
            unlock(&target);
            attributes
                .apply(InodeRef::Open(&target), existed, &mut |what| {
                    self.engine.report_not_representable(entry, what)
                })
                .map_err(|why| EntryError::Target("setting attributes of", why))
        });
        if let Err(error) = made {
            self.engine.handle_error(entry, error);
        }
        self.engine.finish(parent, 1);
        self.check_stopped()
    }

    fn snapshot(&self, parent: DirectoryId, path: PathBuf) -> Result<()> {
        log::info!("{} is a snapshot and is left out", path.display());
        self.engine.finish(parent, 1);
        self.check_stopped()
    }

    fn listed(&self, directory: DirectoryId) -> Result<()> {
        self.engine.finish(directory, 1);
        self.check_stopped()
    }

    fn lost(&self, directory: DirectoryId, name: &CStr, why: Errno) -> Result<()> {
        self.engine.handle_error(EntryRef { directory, name }, EntryError::Source(why));
        if !name.is_empty() {
            self.engine.finish(directory, 1);
        }
        self.check_stopped()
    }
}
