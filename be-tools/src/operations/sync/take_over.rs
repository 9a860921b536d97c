//! Files of another BE, taken over one by one. Each is replaced in one step, and to do it again
//! changes nothing.

use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::list::{Item, Manner};
use super::{accounts, base, grown};
use crate::error::{Doing, Result};
use crate::plan::go_on;
use crate::root_dir::RootDir;
use crate::tree::manifest::{Entry, Manifest};
use crate::tree::xattr::InodeRef;

/// The largest file of which only a part is taken over, in bytes.
const MAX_GROWN: u64 = 256 << 20;

/// The most files below the directories of a list.
const MAX_FILES: usize = 100_000;

/// The deepest directory below one of a list.
const MAX_DEPTH: usize = 16;

/// What was taken over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// The name of the other BE.
    pub from: String,
    /// The files that have something of the other BE now.
    pub taken: Vec<PathBuf>,
    /// The files that stay as they are, or parts of them, with the reason.
    pub kept: Vec<(PathBuf, String)>,
    /// Sentences about lines of the list that say nothing.
    pub warnings: Vec<String>,
}

/// Both systems, and what they had in common.
struct Sync<'a> {
    source: &'a RootDir,
    target: &'a RootDir,
    base: Option<Manifest>,
    done: TakenOver,
}

/// Takes over what the target's list names from the system at `source`, whose name is `from`.
///
/// # Errors
/// The list or a file of the target cannot be read or written. What of the source cannot be read is
/// among what was kept.
pub(super) fn take_over(from: &str, source: &RootDir, target: &RootDir) -> Result<TakenOver> {
    let (items, warnings) = base::list(target)?;
    // Without it, nothing is known of what both had.
    let base = base::read(target).ok().flatten();
    let done = TakenOver { from: from.to_owned(), warnings, ..TakenOver::default() };
    let mut sync = Sync { source, target, base, done };
    for item in &items {
        sync.item(item)?;
    }
    target.sync()?;
    Ok(sync.done)
}

impl Sync<'_> {
    fn item(&mut self, item: &Item) -> Result<()> {
        let mut waiting = vec![(item.path.clone(), 0)];
        let mut count = 0;
        while let Some((path, depth)) = waiting.pop() {
            go_on()?;
            count += 1;
            if count > MAX_FILES || depth > MAX_DEPTH {
                self.keep(&path, "there are too many files, or they are too deep");
                break;
            }
            match self.source.symlink_metadata(&path) {
                Ok(Some(found)) if found.is_dir() => {
                    let names: Vec<OsString> = self.source.names(&path).unwrap_or_default();
                    waiting.extend(names.iter().map(|name| (path.join(name), depth + 1)));
                }
                Ok(Some(found)) if found.is_file() => self.file(&path, item.manner)?,
                // It has none, or a symlink, a socket or the like, which belongs to packages.
                Ok(_) => {}
                Err(why) => self.keep(&path, &why.to_string()),
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, manner: Manner) -> Result<()> {
        let source = match self.source.file(path) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(()),
            Err(why) => {
                self.keep(path, &why.to_string());
                return Ok(());
            }
        };
        let known = self.base.as_ref().and_then(|base| base.entry(path)).cloned();
        if is_as(known.as_ref(), &source, path)? {
            return Ok(());
        }
        let target = self.target.file(path)?;
        if target.is_none() && self.target.symlink_metadata(path)?.is_some() {
            self.keep(path, "something else has its name here");
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
        let relative = path.strip_prefix("/").unwrap_or(path);
        if let Some(file) = accounts::FILES.iter().find(|file| Path::new(file) == relative) {
            return self.merge(path, file, source, &target);
        }
        if !is_same(source, &target).at("reading", path)? {
            self.keep(path, "it was changed in both");
        }
        Ok(())
    }

    /// Merges a file of accounts.
    fn merge(&mut self, path: &Path, file: &str, source: &File, target: &File) -> Result<()> {
        let before = base::account_file(self.target, file)?;
        let [other, own] = [text(source).at("reading", path)?, text(target).at("reading", path)?];
        let merged = accounts::merge(file, &before, &other, &own);
        for name in &merged.kept {
            self.keep(path, &format!("'{name}' was changed in both"));
        }
        if merged.text == own {
            return Ok(());
        }
        self.put(path, source, |file| file.write_all(merged.text.as_bytes()))
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
        let more = match manner {
            Manner::Prepend => grown::before(&other, is_base, size),
            _ => grown::after(&other, is_base, size),
        };
        let own = match &target {
            Some(target) => read(target).at("reading", path)?,
            None => Some(Vec::new()),
        };
        let Some(own) = own else {
            self.keep(path, "it is too large");
            return Ok(());
        };
        let has_it = match manner {
            Manner::Prepend => own.starts_with(more),
            _ => own.ends_with(more),
        };
        if has_it {
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
        let parent = path.parent().unwrap_or(Path::new("/"));
        if self.target.directory(parent)?.is_none() {
            self.keep(path, "its directory is not there");
            return Ok(());
        }
        let attributes = source.metadata().at("reading", path)?;
        let is_new = self.target.symlink_metadata(path)?.is_none();
        self.target.replace(path, attributes.mode() & 0o7777, |file| {
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

    fn keep(&mut self, path: &Path, why: &str) {
        self.done.kept.push((path.to_owned(), why.to_owned()));
    }
}

/// Whether the content of a file is what it was when both had it.
fn is_as(known: Option<&Entry>, file: &File, path: &Path) -> Result<bool> {
    let Some(known) = known else { return Ok(false) };
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

fn text(file: &File) -> std::io::Result<String> {
    let bytes = read(file)?.ok_or_else(|| std::io::Error::other("it is too large"))?;
    String::from_utf8(bytes).map_err(std::io::Error::other)
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
mod tests {
    use super::*;
    use crate::root_dir::testing::tree;

    const LIST: &str = "/etc/passwd OVERWRITE\n/etc/note OVERWRITE\n/var/mail OVERWRITE\n\
        /var/log/syslog APPEND\n/var/log/news PREPEND\n";
    const BEFORE: [(&str, &str); 6] = [
        ("etc/lifeboat/sync.list", LIST),
        ("etc/passwd", "root:x:0:0\n"),
        ("etc/note", "old\n"),
        ("var/log/syslog", "one\n"),
        ("var/log/news", "one\n"),
        ("var/mail/alice", "hello\n"),
    ];

    /// Two equal systems, the second of which knows what both had.
    fn systems() -> [(tempfile::TempDir, RootDir); 2] {
        let systems = [tree(&BEFORE), tree(&BEFORE)];
        base::keep(systems[1].1.path()).unwrap();
        systems
    }

    fn take(systems: &[(tempfile::TempDir, RootDir); 2]) -> TakenOver {
        let [(_, source), (_, target)] = systems;
        take_over("first", source, target).unwrap()
    }

    fn write(system: &RootDir, path: &str, text: &str) {
        std::fs::write(system.path().join(path), text).unwrap();
    }

    fn content(system: &RootDir, path: &str) -> String {
        system.text(path).unwrap().unwrap()
    }

    #[test]
    fn what_changed_in_the_other_one_alone_is_taken_over() {
        let systems = systems();
        assert_eq!(take(&systems).taken, Vec::<PathBuf>::new());
        let [(_, source), (_, target)] = &systems;
        write(source, "etc/note", "new\n");
        write(source, "var/mail/bob", "hi\n");
        write(source, "var/log/syslog", "one\ntwo\n");
        write(source, "var/log/news", "two\none\n");
        write(target, "var/log/syslog", "one\nhere\n");
        write(target, "var/mail/alice", "read\n");
        let done = take(&systems);
        assert_eq!(done.kept, []);
        let taken = ["/etc/note", "/var/mail/bob", "/var/log/syslog", "/var/log/news"];
        assert_eq!(done.taken, taken.map(PathBuf::from));
        for (path, expected) in [
            ("etc/note", "new\n"),
            ("var/mail/bob", "hi\n"),
            ("var/mail/alice", "read\n"),
            ("var/log/syslog", "one\nhere\ntwo\n"),
            ("var/log/news", "two\none\n"),
        ] {
            assert_eq!(content(target, path), expected, "{path}");
        }
        // The power may fail before it is noted that this was done.
        assert_eq!(take(&systems), TakenOver { from: "first".into(), ..TakenOver::default() });
    }

    #[test]
    fn what_was_changed_in_both_is_kept_and_named() {
        let systems = systems();
        let [(_, source), (_, target)] = &systems;
        write(source, "etc/note", "there\n");
        write(target, "etc/note", "here\n");
        write(source, "var/mail/alice", "more\n");
        std::fs::remove_file(target.path().join("var/mail/alice")).unwrap();
        write(source, "etc/passwd", "root:x:0:0\nalice:x:1000:1000\n");
        write(target, "etc/passwd", "root:x:0:0\nntp:x:1000:1000\n");
        let done = take(&systems);
        let kept: Vec<_> = done.kept.iter().map(|(path, _)| path.to_str().unwrap()).collect();
        assert_eq!(kept, ["/etc/passwd", "/etc/note", "/var/mail/alice"]);
        assert_eq!(content(target, "etc/note"), "here\n");
        // An account with a number of its own is no conflict.
        write(source, "etc/passwd", "root:x:0:0\nalice:x:1001:1001\n");
        assert_eq!(take(&systems).taken, [PathBuf::from("/etc/passwd")]);
        assert_eq!(
            content(target, "etc/passwd"),
            "root:x:0:0\nntp:x:1000:1000\nalice:x:1001:1001\n"
        );
    }

    #[test]
    fn nothing_leads_out_of_either_system() {
        let systems = systems();
        let [(_, source), (_, target)] = &systems;
        let secret = tempfile::tempdir().unwrap();
        std::fs::write(secret.path().join("x"), "secret").unwrap();
        std::os::unix::fs::symlink(secret.path(), source.path().join("var/mail/out")).unwrap();
        std::os::unix::fs::symlink(secret.path().join("x"), source.path().join("var/mail/x"))
            .unwrap();
        std::fs::remove_file(target.path().join("etc/note")).unwrap();
        std::os::unix::fs::symlink(secret.path().join("x"), target.path().join("etc/note"))
            .unwrap();
        write(source, "etc/note", "new\n");
        let done = take(&systems);
        assert_eq!(done.taken, Vec::<PathBuf>::new());
        assert_eq!(done.kept.len(), 1, "{done:?}");
        assert_eq!(std::fs::read_to_string(secret.path().join("x")).unwrap(), "secret");
    }

    #[test]
    fn without_what_both_had_nothing_is_overwritten() {
        let systems = [tree(&BEFORE), tree(&BEFORE)];
        let [(_, source), (_, target)] = &systems;
        write(source, "etc/note", "new\n");
        let done = take(&systems);
        assert_eq!((done.taken.len(), done.kept.len()), (0, 1), "{done:?}");
        assert_eq!(content(target, "etc/note"), "old\n");
    }
}
