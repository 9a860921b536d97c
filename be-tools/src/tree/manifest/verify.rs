//! Compares a tree with its manifest.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::content::{From, Reader, hash, target};
use super::entry::{Content, Entry, MAX_PATH, Manifest, is_fat};
use crate::error::Result;
use crate::tree::exclude::{Exclude, Verdict};
use crate::tree::inspect::{Directory, Inspected, Inspector, inspect};
use crate::tree::listing::{Listed, Tree, joined, kind_name};
use crate::tree::queue::lock;

/// What a tree has that is not as its manifest says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Sorted by path.
    pub findings: Vec<Finding>,
    /// Files whose content the manifest does not have.
    pub unproved: u64,
    /// What was looked at.
    pub inspected: Inspected,
}

/// An entry that is not as the manifest says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// From the root of the tree, with a slash first.
    pub path: PathBuf,
    /// How it differs.
    pub status: Status,
}

/// How an entry differs from the manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// Its attributes or its content differ, although nothing has written to it since: the names of
    /// what differs, as in [`Status::Changed`].
    Damaged(Vec<&'static str>),
    /// It cannot be read.
    Unreadable(String),
    /// It was changed: `type`, `mode`, `owner`, `size`, `target`, `device`, `xattrs`, `content`.
    Changed(Vec<&'static str>),
    /// It is not there; its type, for people.
    Missing(&'static str),
    /// It is not there, although nothing has written to its directory since; its type, for people.
    Vanished(&'static str),
    /// The manifest does not have it; its type, for people.
    Added(&'static str),
}

impl Status {
    /// Whether no program can have done this on purpose.
    pub fn is_damage(&self) -> bool {
        matches!(self, Status::Damaged(_) | Status::Unreadable(_) | Status::Vanished(_))
    }
}

struct Verifier<'a> {
    manifest: &'a Manifest,
    rules: &'a Exclude,
    findings: Mutex<Vec<Finding>>,
    unproved: AtomicU64,
}

/// Compares a tree with its manifest, except what the rules leave out. All content is read. `tick`
/// is called regularly with the count so far.
///
/// # Errors
/// The root cannot be opened; that of `tick`; and [`Error::Interrupted`](crate::Error::Interrupted).
pub fn verify(
    tree: &Tree,
    rules: &Exclude,
    manifest: &Manifest,
    tick: &mut dyn FnMut(Inspected) -> Result<()>,
) -> Result<Findings> {
    let verifier =
        Verifier { manifest, rules, findings: Mutex::default(), unproved: AtomicU64::new(0) };
    let inspected = inspect(tree, rules, &verifier, tick)?;
    let mut findings = verifier.findings.into_inner().unwrap_or_else(PoisonError::into_inner);
    findings.sort_unstable();
    // What cannot be read was not listed either.
    findings.dedup_by(|later, first| {
        let is_missing = matches!(later.status, Status::Missing(_) | Status::Vanished(_));
        is_missing && later.path == first.path && matches!(first.status, Status::Unreadable(_))
    });
    Ok(Findings { findings, unproved: verifier.unproved.into_inner(), inspected })
}

impl Inspector for Verifier<'_> {
    fn directory(&self, directory: Directory<'_>, entries: Vec<Listed>, read: &dyn Fn(u64)) {
        let mut reader = Reader { from: From::Disk, buffer: Vec::new(), read };
        let mut known = self.manifest.in_directory(directory.path).iter().peekable();
        let is_fat = is_fat(directory.fd);
        // Nobody has added or removed anything there.
        let above = self.manifest.entry(OsStr::from_bytes(directory.path).as_ref());
        let is_same =
            !is_fat && above.is_some_and(|above| above.is_unchanged(directory.fd).unwrap_or(false));
        for listed in entries {
            while let Some(missing) =
                known.next_if(|entry| entry.place().1 < listed.name.to_bytes())
            {
                self.miss(missing, &directory, is_same);
            }
            let path = joined(directory.path, &listed.name);
            let Some(known) = known.next_if(|entry| entry.place().1 == listed.name.to_bytes())
            else {
                match path.len() > MAX_PATH {
                    true => self.unproved(),
                    false => self.add(&path, Status::Added(kind_name(listed.kind()))),
                }
                continue;
            };
            if known.kind == FileType::RegularFile && !known.has_hash() {
                self.unproved();
            }
            let found = Entry::of(path, &listed);
            match differences(known, found, &directory, &listed, is_fat, &mut reader) {
                Ok((_, names)) if names.is_empty() => {}
                Ok((true, names)) => self.add(&known.path, Status::Damaged(names)),
                Ok((false, names)) => self.add(&known.path, Status::Changed(names)),
                Err(why) => self.unread(&known.path, why),
            }
        }
        known.for_each(|missing| self.miss(missing, &directory, is_same));
    }

    fn unread(&self, path: &[u8], why: Errno) {
        // It was removed while its directory was looked at.
        if why != Errno::NOENT {
            self.add(path, Status::Unreadable(why.to_string()));
        }
    }
}

impl Verifier<'_> {
    fn miss(&self, missing: &Entry, directory: &Directory<'_>, is_same_directory: bool) {
        // What the rules leave out was not looked for.
        if self.rules.verdict(&missing.path, directory.verdict) != Verdict::Skip {
            let kind = kind_name(missing.kind);
            self.add(
                &missing.path,
                match is_same_directory {
                    true => Status::Vanished(kind),
                    false => Status::Missing(kind),
                },
            );
        }
    }

    fn unproved(&self) {
        self.unproved.fetch_add(1, Ordering::Relaxed);
    }

    fn add(&self, path: &[u8], status: Status) {
        let path = PathBuf::from(OsStr::from_bytes(path));
        lock(&self.findings).push(Finding { path, status });
    }
}

/// Whether nothing has written to the inode since, and what differs nevertheless.
///
/// # Errors
/// As read(2).
fn differences(
    known: &Entry,
    mut found: Entry,
    directory: &Directory<'_>,
    listed: &Listed,
    is_fat: bool,
    reader: &mut Reader<'_>,
) -> Result<(bool, Vec<&'static str>), Errno> {
    let mut is_same_inode = known.is_same(&listed.stat, is_fat);
    if known.kind != found.kind {
        return Ok((is_same_inode, vec!["type"]));
    }
    match (found.kind, &known.content) {
        (FileType::Symlink, _) => {
            found.content = Content::Target(target(directory.fd, &listed.name)?);
        }
        // A file of another size has other content.
        (FileType::RegularFile, Content::Hash(expected)) if known.size == found.size => {
            let Some((hash, after)) = hash(directory.fd, &listed.name, expected.kind(), reader)?
            else {
                return Ok((is_same_inode, Vec::new()));
            };
            is_same_inode &= known.is_same(&after, is_fat);
            found.content = Content::Hash(hash);
        }
        (FileType::RegularFile, content) => found.content = content.clone(),
        _ => {}
    }
    let content = match found.kind {
        FileType::Symlink => "target",
        FileType::RegularFile => "content",
        _ => "device",
    };
    // The mode of a symlink has no effect, and its size is that of its target. On a FAT, the mount
    // says who owns what.
    let is_symlink = found.kind == FileType::Symlink;
    let names = [
        ("mode", known.mode != found.mode && !is_symlink && !is_fat),
        ("owner", known.owner != found.owner && !is_fat),
        ("size", known.size != found.size && !is_symlink),
        ("xattrs", known.xattrs != found.xattrs),
        (content, known.content != found.content),
    ];
    let names = names.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name);
    Ok((is_same_inode, names.collect()))
}
