//! Walking a source tree: folder by folder, entries in the order of their inodes, which on most file systems is the
//! order of their content on the disk. It stays on the mount it starts on.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;

use super::exclude::{Exclude, Verdict};
use super::folders::{Folders, Id, ROOT, Side, open_in};
use crate::error::Result;

/// Entries of one folder that are sorted together: a folder of any size passes through in pieces.
const BATCH: usize = 8192;

/// Bytes asked from the kernel at once.
const LISTING: usize = 64 * 1024;

/// What the walker tells. For every entry and folder it has called [`Folders::expect`] on the parent before; whoever
/// is told of one calls [`Folders::done`] once it needs the parent no more.
pub trait Sink {
    /// An entry that is no folder. Its parent has been told of before.
    fn entry(&mut self, folder: Id, name: CString, kind: FileType) -> Result<()>;
    /// A folder: `id` is in [`Folders`] already, `source` is open. False: do not look into it.
    fn folder(&mut self, id: Id, parent: Id, name: &CStr, source: &OwnedFd, stat: &Stat) -> Result<bool>;
    /// A folder on which something else is mounted: kept as an empty one. `stat` is of the mounted root.
    fn mount_point(&mut self, parent: Id, name: &CStr, stat: &Stat) -> Result<()>;
    /// All entries of the folder have been told; `verdict` is its own.
    fn listed(&mut self, folder: Id, verdict: Verdict) -> Result<()>;
    /// An entry that could not be looked at; without a name, the rest of the folder's own listing.
    fn lost(&mut self, folder: Id, name: &CStr, why: Errno) -> Result<()>;
}

struct Waiting {
    parent: Id,
    name: CString,
    verdict: Verdict,
}

/// Walks the tree of `folders`, whose root is open.
///
/// # Errors
/// What the sink returns; what cannot be read is told to it.
pub fn walk(folders: &Folders, exclude: &Exclude, sink: &mut impl Sink) -> Result<()> {
    let mut buffer = vec![MaybeUninit::<u8>::uninit(); LISTING];
    let mut waiting: Vec<Waiting> = Vec::new();
    let root_verdict = exclude.verdict_of_mount_point(&folders.path(ROOT, b""));
    match folders.open(Side::Source, ROOT).and_then(|fd| rustix::fs::fstat(&*fd).map(|stat| (fd, stat))) {
        Ok((source, stat)) => {
            if sink.folder(ROOT, ROOT, c"", &source, &stat)? && root_verdict != Verdict::FolderOnly {
                list(folders, exclude, sink, &mut buffer, &mut waiting, (ROOT, root_verdict, source))?;
            }
        }
        Err(why) => sink.lost(ROOT, c"", why)?,
    }
    sink.listed(ROOT, root_verdict)?;
    while let Some(Waiting { parent, name, verdict }) = waiting.pop() {
        descend(folders, exclude, sink, &mut buffer, &mut waiting, (parent, &name, verdict))?;
    }
    Ok(())
}

fn descend(
    folders: &Folders,
    exclude: &Exclude,
    sink: &mut impl Sink,
    buffer: &mut [MaybeUninit<u8>],
    waiting: &mut Vec<Waiting>,
    (parent, name, verdict): (Id, &CStr, Verdict),
) -> Result<()> {
    let above = match folders.open(Side::Source, parent) {
        Ok(above) => above,
        Err(why) => return sink.lost(parent, name, why),
    };
    let source = match open_in(&above, name) {
        Ok(source) => source,
        Err(Errno::XDEV) => {
            return match rustix::fs::statat(&*above, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
            {
                Ok(stat) => sink.mount_point(parent, name, &stat),
                Err(why) => sink.lost(parent, name, why),
            };
        }
        // It has become something else since it was listed.
        Err(Errno::NOTDIR | Errno::LOOP) => return sink.lost(parent, name, Errno::NOENT),
        Err(why) => return sink.lost(parent, name, why),
    };
    let stat = match rustix::fs::fstat(&source) {
        Ok(stat) => stat,
        Err(why) => return sink.lost(parent, name, why),
    };
    let id = folders.add(parent, name, source, (stat.st_dev, stat.st_ino));
    let source = match folders.open(Side::Source, id) {
        Ok(source) => source,
        Err(why) => return sink.lost(parent, name, why),
    };
    if sink.folder(id, parent, name, &source, &stat)? && verdict != Verdict::FolderOnly {
        list(folders, exclude, sink, buffer, waiting, (id, verdict, source))?;
    }
    sink.listed(id, verdict)
}

fn list(
    folders: &Folders,
    exclude: &Exclude,
    sink: &mut impl Sink,
    buffer: &mut [MaybeUninit<u8>],
    waiting: &mut Vec<Waiting>,
    (id, verdict, source): (Id, Verdict, Arc<OwnedFd>),
) -> Result<()> {
    let mut path = folders.path(id, b"");
    if !path.ends_with(b"/") {
        path.push(b'/');
    }
    let length = path.len();
    let mut batch: Vec<(u64, CString, FileType)> = Vec::new();
    let mut subfolders: Vec<(u64, CString, Verdict)> = Vec::new();
    let mut listing = RawDir::new(&*source, buffer);
    loop {
        let end = match listing.next() {
            Some(Ok(entry)) => {
                let name = entry.file_name();
                if !matches!(name.to_bytes(), b"." | b"..") {
                    batch.push((entry.ino(), name.to_owned(), entry.file_type()));
                }
                false
            }
            Some(Err(Errno::INTR)) => false,
            Some(Err(why)) => {
                sink.lost(id, c"", why)?;
                true
            }
            None => true,
        };
        if !end && batch.len() < BATCH {
            continue;
        }
        batch.sort_unstable_by_key(|(inode, ..)| *inode);
        for (inode, name, kind) in batch.drain(..) {
            path.truncate(length);
            path.extend_from_slice(name.to_bytes());
            let entry_verdict = match exclude.verdict(&path, verdict) {
                Verdict::Skip => continue,
                // A file system's own, at its top: mkfs made one in the target.
                _ if id == ROOT && name.to_bytes() == b"lost+found" => continue,
                entry_verdict => entry_verdict,
            };
            let kind = match kind {
                FileType::Unknown => match rustix::fs::statat(&*source, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => FileType::from_raw_mode(stat.st_mode),
                    Err(why) => {
                        folders.expect(id);
                        sink.lost(id, &name, why)?;
                        continue;
                    }
                },
                kind => kind,
            };
            if kind == FileType::Directory {
                folders.expect(id);
                subfolders.push((inode, name, entry_verdict));
            } else if entry_verdict != Verdict::OnTheWay {
                folders.expect(id);
                sink.entry(id, name, kind)?;
            }
        }
        if end {
            break;
        }
    }
    // The last one pushed is the next one visited.
    subfolders.sort_unstable_by_key(|(inode, ..)| std::cmp::Reverse(*inode));
    waiting.extend(subfolders.into_iter().map(|(_, name, verdict)| Waiting { parent: id, name, verdict }));
    Ok(())
}
