//! Makes the manifest of a tree.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::content::{From, Hash, HashKind, Reader, hash, target};
use super::entry::{Content, Entry, MAX_PATH, Manifest};
use crate::error::Result;
use crate::timestamp::Timestamp;
use crate::tree::directories::InodeId;
use crate::tree::exclude::Exclude;
use crate::tree::inspect::{Directory, Inspected, Inspector, inspect};
use crate::tree::listing::{Listed, Tree, joined};
use crate::tree::queue::lock;

/// A manifest that was made.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// It.
    pub manifest: Manifest,
    /// What could not be read, or changed while it was read, with the reason.
    pub unread: Vec<String>,
}

/// What is done with a file of which the known manifest has nothing, or that was changed since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// It is read.
    Read,
    /// It is read if its inode was changed at this time or later. Otherwise its content stays
    /// unknown.
    ReadSince(Timestamp),
}

struct Recorder<'a> {
    known: &'a Manifest,
    unknown: Unknown,
    entries: Mutex<Vec<Entry>>,
    unread: Mutex<Vec<String>>,
    /// The content of files with several names.
    linked: Mutex<HashMap<InodeId, Hash>>,
}

/// Makes the manifest of a tree, except of what the rules leave out. Of a file whose inode has not
/// been changed since `known` was made, the content is what is known there, if anything is. `tick`
/// is called regularly with the count so far.
///
/// # Errors
/// The root cannot be opened; that of `tick`; and [`Error::Interrupted`](crate::Error::Interrupted).
pub fn record(
    tree: &Tree,
    rules: &Exclude,
    known: &Manifest,
    unknown: Unknown,
    tick: &mut dyn FnMut(Inspected) -> Result<()>,
) -> Result<Recorded> {
    let recorder = Recorder {
        known,
        unknown,
        entries: Mutex::default(),
        unread: Mutex::default(),
        linked: Mutex::default(),
    };
    inspect(tree, rules, &recorder, tick)?;
    let entries = recorder.entries.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut unread = recorder.unread.into_inner().unwrap_or_else(PoisonError::into_inner);
    unread.sort();
    Ok(Recorded { manifest: Manifest::new(entries), unread })
}

impl Inspector for Recorder<'_> {
    fn directory(&self, directory: Directory<'_>, entries: Vec<Listed>, read: &dyn Fn(u64)) {
        let mut reader = Reader { from: From::Anywhere, buffer: Vec::new(), read };
        let mut found = Vec::with_capacity(entries.len());
        for listed in entries {
            let path = joined(directory.path, &listed.name);
            if path.len() > MAX_PATH {
                self.unread(&path, Errno::NAMETOOLONG);
                continue;
            }
            let mut entry = Entry::of(path, &listed);
            if let Err(why) = self.fill(&mut entry, &directory, &listed, &mut reader) {
                self.unread(&entry.path, why);
            }
            found.push(entry);
        }
        lock(&self.entries).append(&mut found);
    }

    fn unread(&self, path: &[u8], why: Errno) {
        let why = match why {
            Errno::AGAIN => "it changed while it was read".into(),
            why => why.to_string(),
        };
        lock(&self.unread).push(format!("{}: {why}", String::from_utf8_lossy(path)));
    }
}

impl Recorder<'_> {
    /// Adds the content, or the target.
    ///
    /// # Errors
    /// As read(2); `AGAIN` if it changed meanwhile.
    fn fill(
        &self,
        entry: &mut Entry,
        directory: &Directory<'_>,
        listed: &Listed,
        reader: &mut Reader<'_>,
    ) -> Result<(), Errno> {
        match entry.kind {
            FileType::Symlink => {
                entry.content = Content::Target(target(directory.fd, &listed.name)?)
            }
            FileType::RegularFile => {
                if let Some(content) = self.known_content(entry, listed) {
                    entry.content = content;
                    return Ok(());
                }
                let Some((hash, after)) =
                    hash(directory.fd, &listed.name, HashKind::of(&listed.stat), reader)?
                else {
                    return Ok(());
                };
                if entry.changed != Timestamp::of(&after) || entry.inode != after.st_ino {
                    return Err(Errno::AGAIN);
                }
                entry.content = Content::Hash(hash);
                if listed.stat.st_nlink > 1 {
                    lock(&self.linked).insert(InodeId::of(&listed.stat), hash);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The content, as far as it has not to be read.
    fn known_content(&self, entry: &Entry, listed: &Listed) -> Option<Content> {
        if entry.size == 0 {
            return Some(Content::Hash(Hash::empty()));
        }
        let linked = (listed.stat.st_nlink > 1).then(|| InodeId::of(&listed.stat));
        if let Some(hash) = linked.and_then(|inode| lock(&self.linked).get(&inode).copied()) {
            return Some(Content::Hash(hash));
        }
        let same = self.known.entry(entry.path()).filter(|known| {
            known.is_same_inode(&listed.stat)
                && (known.kind, known.size, known.modified)
                    == (entry.kind, entry.size, entry.modified)
        });
        match same {
            Some(known) => Some(known.content.clone()),
            None => match self.unknown {
                Unknown::ReadSince(time) if !time.reached_by(&listed.stat) => {
                    Some(Content::Unknown)
                }
                _ => None,
            },
        }
    }
}
