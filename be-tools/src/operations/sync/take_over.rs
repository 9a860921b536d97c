//! Files of another BE, taken over one by one. Each is replaced in one step, and to do it again
//! changes nothing.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::accounts::{self, Owners, People, Texts};
use super::base::{self, Base};
use super::grown;
use super::list::{Item, Manner};
use super::password_lock::PasswordLock;
use crate::error::{Doing, Error, Result};
use crate::lossless;
use crate::plan::go_on;
use crate::root_dir::RootDir;
use crate::tree::manifest::Entry;
use crate::tree::xattr::InodeRef;

/// The largest file of which only a part is taken over, in bytes.
const MAX_GROWN: u64 = 256 << 20;

/// A larger file that has the size and the modification time of what is known of it is not read.
const LARGE: u64 = 1 << 20;

/// The most files below the directories of a list.
const MAX_FILES: usize = 100_000;

/// The deepest directory below one of a list.
const MAX_DEPTH: usize = 16;

/// How long files are taken over: the machine starts meanwhile.
const TIME: Duration = Duration::from_secs(100);

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// The name of the other BE.
    pub from: String,
    /// The files that have something of the other BE now, or were removed as there.
    pub taken: Vec<PathBuf>,
    /// The files that stay as they are, or parts of them, with the reason.
    pub kept: Vec<(PathBuf, String)>,
    /// Sentences about lines of the list that say nothing, and the like.
    pub warnings: Vec<String>,
    /// Whether there was time for everything.
    pub(super) is_whole: bool,
}

/// Both systems, and what they had in common.
pub(super) struct Sides<'a> {
    pub(super) source: &'a RootDir,
    pub(super) target: &'a RootDir,
    pub(super) base: &'a Base,
    /// Whether both have the same file system at a path.
    pub(super) is_shared: &'a dyn Fn(&Path) -> bool,
}

struct Sync<'a> {
    sides: &'a Sides<'a>,
    until: Instant,
    /// What the numbers of owners mean there and here, if that is known.
    owners: Option<[Owners; 2]>,
    /// The files of accounts that both have from now on.
    accounts: Texts,
    /// Files of which it is not known what both have from now on.
    unknown: Vec<PathBuf>,
    done: TakenOver,
}

/// What both have from now on, beside what the other BE has.
pub(super) struct Known {
    /// The files of accounts.
    pub(super) accounts: Texts,
    /// The files that were not taken over.
    pub(super) unknown: Vec<PathBuf>,
}

/// Takes over what the target's list names from the system whose name is `from`.
///
/// # Errors
/// The list cannot be read, the target is full or cannot be written to. What of a single file cannot
/// be read or written is among what was kept.
pub(super) fn take_over(from: &str, sides: &Sides<'_>) -> Result<(TakenOver, Known)> {
    let (items, warnings) = base::list(sides.target)?;
    let done =
        TakenOver { from: from.to_owned(), warnings, is_whole: true, ..TakenOver::default() };
    let mut sync = Sync {
        sides,
        until: Instant::now() + TIME,
        owners: None,
        accounts: Texts::new(),
        unknown: Vec::new(),
        done,
    };
    sync.accounts(&items)?;
    for item in &items {
        if accounts::FILES.iter().all(|file| Path::new("/").join(file) != item.path) {
            sync.item(item)?;
        }
    }
    sides.target.sync()?;
    Ok((sync.done, Known { accounts: sync.accounts, unknown: sync.unknown }))
}

impl Sync<'_> {
    /// Merges the files of accounts that the list names.
    fn accounts(&mut self, items: &[Item]) -> Result<()> {
        let is_listed = |file: &str| {
            let path = Path::new("/").join(file);
            items.iter().any(|item| path.starts_with(&item.path)) && !(self.sides.is_shared)(&path)
        };
        let listed: Vec<&'static str> =
            accounts::FILES.into_iter().filter(|file| is_listed(file)).collect();
        let own = base::texts(self.sides.target)?;
        let there = base::texts(self.sides.source);
        self.owners = there.as_ref().ok().map(|other| [other, &own].map(Owners::of));
        self.accounts.clone_from(&self.sides.base.accounts);
        if listed.is_empty() {
            return Ok(());
        }
        // Without the groups, nobody knows what the number of one means.
        if !listed.contains(&accounts::PASSWD) || !listed.contains(&accounts::GROUP) {
            for file in listed {
                let why = "it is only taken over with /etc/passwd and /etc/group";
                self.keep(&Path::new("/").join(file), why);
            }
            return Ok(());
        }
        let _lock = PasswordLock::take(self.sides.target)?;
        let mut other = match there {
            Ok(texts) => texts,
            Err(why) => {
                self.keep(Path::new("/etc/passwd"), &why.to_string());
                return Ok(());
            }
        };
        let mut known = self.sides.base.accounts.clone();
        // Of what is not on the list, nothing has changed.
        for file in accounts::FILES.into_iter().filter(|file| !listed.contains(file)) {
            let text = own.get(file).cloned().unwrap_or_default();
            other.insert(file, text.clone());
            known.insert(file, text);
        }
        let login_defs = self.sides.target.text("etc/login.defs").ok().flatten();
        let people = People::of(&login_defs.unwrap_or_default());
        let merged = match accounts::merge(&known, &other, &own, &people) {
            Ok(merged) => merged,
            Err(why) => {
                self.keep(Path::new("/etc/passwd"), &format!("no account was taken over: {why}"));
                return Ok(());
            }
        };
        for accounts::KeptLine { file, name, why } in merged.kept {
            self.done.kept.push((Path::new("/").join(file), format!("'{name}' {why}")));
        }
        self.accounts = merged.base;
        self.owners = Some([&other, &merged.texts].map(Owners::of));
        for file in listed {
            let (before, after) = (own.get(file), merged.texts.get(file));
            let path = Path::new("/").join(file);
            let (Some(before), Some(after)) = (before, after) else {
                if other.get(file).is_some_and(|text| !text.is_empty()) {
                    self.keep(&path, "it is not there here");
                }
                continue;
            };
            let is_file = self.sides.target.symlink_metadata(&path)?.is_some_and(|f| f.is_file());
            if before == after || !is_file {
                continue;
            }
            let bytes = lossless::encode(before);
            self.sides.target.write(base::replaced(file), &bytes, 0o600)?;
            self.sides.target.write(&path, &lossless::encode(after), 0o644)?;
            self.done.taken.push(path);
        }
        Ok(())
    }

    fn item(&mut self, item: &Item) -> Result<()> {
        let top = match followed(self.sides.source, self.sides.target, &item.path) {
            Ok(top) => top,
            Err(why) => {
                self.keep(&item.path, why);
                return Ok(());
            }
        };
        let mut waiting = vec![(top.clone(), 0)];
        let (mut count, mut is_known) = (0, true);
        while let Some((path, depth)) = waiting.pop() {
            go_on()?;
            count += 1;
            if count > MAX_FILES || depth > MAX_DEPTH {
                self.keep(&path, "there are too many files, or they are too deep");
                return Ok(());
            }
            if Instant::now() > self.until {
                self.keep(&path, "there was no time for it and what comes after it");
                self.done.is_whole = false;
                return Ok(());
            }
            if (self.sides.is_shared)(&path) {
                continue;
            }
            match self.sides.source.symlink_metadata(&path) {
                Ok(Some(found)) if found.is_dir() => match self.sides.source.names(&path) {
                    Ok(names) => {
                        let names: Vec<OsString> = names;
                        waiting.extend(names.iter().map(|name| (path.join(name), depth + 1)));
                    }
                    Err(why) => {
                        is_known = false;
                        self.keep(&path, &why.to_string());
                    }
                },
                Ok(Some(found)) if found.is_file() => {
                    if let Err(why) = self.file(&path, item.manner) {
                        self.keep_unless_it_ends(&path, why)?;
                    }
                }
                // It has none, or a symlink, a socket or the like, which belongs to packages.
                Ok(_) => {}
                Err(why) => self.keep(&path, &why.to_string()),
            }
        }
        if is_known && item.manner == Manner::Overwrite {
            self.removed(&top)?;
        }
        Ok(())
    }

    /// Removes the files below a directory that were removed there.
    fn removed(&mut self, top: &Path) -> Result<()> {
        let Sides { source, target, base, .. } = *self.sides;
        if !source.symlink_metadata(top).is_ok_and(|found| found.is_some_and(|f| f.is_dir())) {
            return Ok(());
        }
        for known in base.below(top).filter(|known| known.is_file()) {
            let path = known.path();
            let is_gone = matches!(source.symlink_metadata(path), Ok(None));
            let is_here = matches!(target.symlink_metadata(path), Ok(Some(here)) if here.is_file());
            if !is_gone || !is_here || (self.sides.is_shared)(path) {
                continue;
            }
            let unchanged = target.file(path).and_then(|file| match file {
                Some(file) => is_as(Some(known), &file, path),
                None => Ok(false),
            });
            match unchanged {
                Ok(true) => match target.remove(path) {
                    Ok(()) => self.done.taken.push(path.to_owned()),
                    Err(why) => self.keep_unless_it_ends(path, why)?,
                },
                Ok(false) => self.keep(path, "it was removed there, and changed here"),
                Err(why) => self.keep(path, &why.to_string()),
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, manner: Manner) -> Result<()> {
        let Some(source) = self.sides.source.file(path)? else { return Ok(()) };
        let known = self.sides.base.entry(path).cloned();
        if is_as(known.as_ref(), &source, path)? {
            return Ok(());
        }
        // A symlink would be replaced, and what it names would be left behind.
        let here = self.sides.target.symlink_metadata(path)?;
        if here.is_some_and(|here| !here.is_file()) {
            self.keep(path, "something else has its name here");
            return Ok(());
        }
        let target = self.sides.target.file(path)?;
        if known.is_none() && !self.sides.base.covers(path) {
            let is_equal = match &target {
                Some(target) => is_same(&source, target).at("reading", path)?,
                None => false,
            };
            if !is_equal {
                self.keep(path, "it came to the list after both were last equal");
            }
            return Ok(());
        }
        match manner {
            Manner::Overwrite => self.overwrite(path, known.as_ref(), &source, target),
            Manner::Append | Manner::Prepend => self.grow(path, manner, known, &source, target),
        }
    }

    fn overwrite(
        &mut self,
        path: &Path,
        known: Option<&Entry>,
        source: &File,
        target: Option<File>,
    ) -> Result<()> {
        let Some(target) = target else {
            if known.is_some() {
                self.keep(path, "it was removed here, and changed there");
                return Ok(());
            }
            return self.put(path, source, |file| copy(source, file));
        };
        if is_as(known, &target, path)? {
            return self.put(path, source, |file| copy(source, file));
        }
        if !is_same(source, &target).at("reading", path)? {
            self.keep(path, "it was changed in both");
        }
        Ok(())
    }

    /// Adds what the source has more, before or after what the target has.
    fn grow(
        &mut self,
        path: &Path,
        manner: Manner,
        known: Option<Entry>,
        source: &File,
        target: Option<File>,
    ) -> Result<()> {
        let Some(other) = read(source).at("reading", path)? else {
            self.keep(path, "it is too large");
            return Ok(());
        };
        let size = known.as_ref().and_then(|known| usize::try_from(known.size()).ok());
        let is_base = |bytes: &[u8]| known.as_ref().is_some_and(|known| known.is_content(bytes));
        let size = size.unwrap_or(0);
        let own = match &target {
            Some(target) => read(target).at("reading", path)?,
            None => Some(Vec::new()),
        };
        let Some(own) = own else {
            self.keep(path, "it is too large");
            return Ok(());
        };
        let grown = match manner {
            Manner::Prepend => grown::before,
            _ => grown::after,
        };
        let more = grown(&other, &is_base, size);
        // An earlier start may have added it, and programs have written since.
        if memchr::memmem::find(grown(&own, &is_base, size), more).is_some() {
            return Ok(());
        }
        let parts = match manner {
            Manner::Prepend => [more, &own],
            _ => [&own, more],
        };
        self.put(path, source, |file| parts.iter().try_for_each(|part| file.write_all(part)))
    }

    /// Writes a file. One that is new has the attributes of the source's.
    fn put(
        &mut self,
        path: &Path,
        source: &File,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<()> {
        let target = self.sides.target;
        let parent = path.parent().unwrap_or(Path::new("/"));
        if target.directory(parent)?.is_none() {
            self.keep(path, "its directory is not there");
            return Ok(());
        }
        let attributes = source.metadata().at("reading", path)?;
        let is_new = target.symlink_metadata(path)?.is_none();
        if is_new && !self.is_same_owner(attributes.uid(), attributes.gid()) {
            self.keep(path, "its owner or its group is another one here");
            return Ok(());
        }
        target.replace(path, attributes.mode() & 0o7777, |file| {
            fill(file)?;
            if is_new {
                let owner = (Some(attributes.uid()), Some(attributes.gid()));
                std::os::unix::fs::fchown(&*file, owner.0, owner.1)?;
                copy_xattrs(source, file)?;
            }
            Ok(())
        })?;
        self.done.taken.push(path.to_owned());
        Ok(())
    }

    /// Whether the numbers of an owner and a group mean the same on both sides.
    fn is_same_owner(&self, uid: u32, gid: u32) -> bool {
        self.owners.as_ref().is_some_and(|[other, own]| other.agree(own, uid, gid))
    }

    fn keep(&mut self, path: &Path, why: &str) {
        self.unknown.push(path.to_owned());
        self.done.kept.push((path.to_owned(), why.to_owned()));
    }

    /// Goes on after an error that is that of one file.
    fn keep_unless_it_ends(&mut self, path: &Path, why: Error) -> Result<()> {
        let ends = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS];
        match &why {
            Error::Interrupted => Err(why),
            Error::Io { source, .. }
                if Errno::from_io_error(source).is_some_and(|errno| ends.contains(&errno)) =>
            {
                Err(why)
            }
            _ => {
                self.keep(path, &why.to_string());
                Ok(())
            }
        }
    }
}

/// The path of what a symlink names that both systems have in the place of a directory, such as
/// /var/mail.
fn followed(source: &RootDir, target: &RootDir, path: &Path) -> Result<PathBuf, &'static str> {
    let link = |root: &RootDir| {
        let found = root.symlink_metadata(path).ok().flatten();
        found.filter(std::fs::Metadata::is_symlink)?;
        root.link_target(path).ok().flatten()
    };
    match (link(source), link(target)) {
        (None, _) => Ok(path.to_owned()),
        (Some(there), Some(here)) if there == here => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            Ok(plain(&parent.join(there)))
        }
        (Some(_), _) => Err("it is a symlink there, and not the same one here"),
    }
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            _ => {}
        }
    }
    plain
}

/// Whether the content of a file is what it was when both had it.
fn is_as(known: Option<&Entry>, file: &File, path: &Path) -> Result<bool> {
    let Some(known) = known else { return Ok(false) };
    let (is_size, is_time) = known.resembles(file).at("reading", path)?;
    if !is_size || is_time && known.size() > LARGE {
        return Ok(is_size);
    }
    known.proves(file).at("reading", path)
}

fn copy(mut source: &File, target: &mut File) -> std::io::Result<()> {
    source.seek(SeekFrom::Start(0))?;
    std::io::copy(&mut source, target).map(|_| ())
}

fn copy_xattrs(source: &File, target: &File) -> std::io::Result<()> {
    let clone = |file: &File| -> std::io::Result<OwnedFd> { file.as_fd().try_clone_to_owned() };
    let (source, target) = (clone(source)?, clone(target)?);
    for xattr in InodeRef::Open(&source).xattrs()? {
        InodeRef::Open(&target).set(&xattr)?;
    }
    Ok(())
}

/// Reads a file from its beginning; `None` if it is too large.
fn read(mut file: &File) -> std::io::Result<Option<Vec<u8>>> {
    if file.metadata()?.len() > MAX_GROWN {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(MAX_GROWN).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

fn is_same(one: &File, two: &File) -> std::io::Result<bool> {
    if one.metadata()?.len() != two.metadata()?.len() {
        return Ok(false);
    }
    let hash = |mut file: &File| {
        let mut hasher = blake3::Hasher::new();
        file.seek(SeekFrom::Start(0))?;
        std::io::copy(&mut file, &mut hasher)?;
        Ok::<_, std::io::Error>(hasher.finalize())
    };
    Ok(hash(one)? == hash(two)?)
}

#[cfg(test)]
mod tests;
