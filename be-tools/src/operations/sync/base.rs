//! What the files of the list were when two BEs were last equal: what has been changed since, in
//! either of them, shows by it. It lies in one of the two, and serves both.

use std::path::{Path, PathBuf};

use super::accounts::{self, Texts};
use super::list::{DEFAULT, Item, LIST_PATH, parse};
use crate::environment::{Id, manifest};
use crate::error::{Error, Result};
use crate::lossless;
use crate::plan::Report;
use crate::root_dir::RootDir;
use crate::tree::exclude::Exclude;
use crate::tree::listing::Tree;
use crate::tree::manifest::{Entry, Manifest, Unknown, record};

/// Where it is, relative to the root of the BE: a manifest; the files of accounts themselves, the
/// list of then, and which BE the other one is.
const MANIFEST: &str = "var/lib/lifeboat/sync-base.zst";
const FILES: &str = "var/lib/lifeboat/sync-base";

/// What two BEs had in common.
pub(super) struct Base {
    manifest: Manifest,
    /// The files of accounts.
    pub(super) accounts: Texts,
    items: Vec<Item>,
    /// The higher one is the later one.
    number: u64,
}

/// The list of the BE at `root`, or the default one; and sentences about its lines.
///
/// # Errors
/// It cannot be read.
pub(super) fn list(root: &RootDir) -> Result<(Vec<Item>, Vec<String>)> {
    Ok(parse(root.text(LIST_PATH)?.as_deref().unwrap_or(DEFAULT)))
}

impl Base {
    /// What these two BEs had in common when they last were equal; `None` if that is not known.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn of(own: (&RootDir, Id), other: (&RootDir, Id)) -> Result<Option<Base>> {
        let here = Self::read(own.0, other.1)?;
        let there = Self::read(other.0, own.1)?;
        Ok(here.into_iter().chain(there).max_by_key(|base| base.number))
    }

    /// Reads what the BE at `root` keeps, if it is of `partner`.
    fn read(root: &RootDir, partner: Id) -> Result<Option<Base>> {
        let Some(of) = root.text(kept("of"))? else { return Ok(None) };
        let Some((id, number)) = of.trim().split_once(' ') else { return Ok(None) };
        if id != partner.to_string() {
            return Ok(None);
        }
        let Some(manifest) = manifest::read_at(root, MANIFEST.as_ref())? else { return Ok(None) };
        let mut accounts = Texts::new();
        for file in accounts::FILES {
            let bytes = root.read_at_most(kept(file), accounts::MAX_BYTES)?.unwrap_or_default();
            accounts.insert(file, lossless::decode(&bytes));
        }
        let (items, _) = parse(&root.text(kept("list"))?.unwrap_or_default());
        Ok(Some(Base { manifest, accounts, items, number: number.parse().unwrap_or(0) }))
    }

    /// Whether a file that it does not know was not there. It knows nothing of what came to the list
    /// later.
    pub(super) fn covers(&self, path: &Path) -> bool {
        self.items.iter().any(|item| path.starts_with(&item.path))
    }

    /// What it knows of a file.
    pub(super) fn entry(&self, path: &Path) -> Option<&Entry> {
        self.manifest.entry(path)
    }

    /// What it knows below a directory.
    pub(super) fn below<'a>(&'a self, path: &'a Path) -> impl Iterator<Item = &'a Entry> {
        self.manifest.below(path)
    }

    /// Keeps what `other` has now, in the BE at `root`, as what both had. What was not taken over,
    /// at these paths, stays as it is known: otherwise it would seem to have been removed or changed
    /// on this side alone.
    ///
    /// # Errors
    /// Either cannot be read or written, and [`Error::Interrupted`].
    pub(super) fn renew(
        &self,
        root: &RootDir,
        other: (&RootDir, Id),
        accounts: &Texts,
        paths: &[PathBuf],
    ) -> Result<()> {
        let number = now().max(self.number.saturating_add(1));
        keep(root, other.0, other.1, number, &Kept { accounts, old: Some(self), paths })
    }
}

/// Keeps what the files of the list are now in a copy of `source`, mounted as a whole at `root`.
///
/// # Errors
/// It cannot be read or written, and [`Error::Interrupted`].
pub(crate) fn keep_of_copy(root: &Path, source: Option<Id>) -> Result<()> {
    let top = RootDir::open(root)?;
    let Some(source) = source else { return Ok(()) };
    let accounts = texts(&top)?;
    keep(&top, &top, source, now(), &Kept { accounts: &accounts, old: None, paths: &[] })
}

/// The later one counts, wherever it lies.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs())
}

/// The files of accounts of the system at `root`.
///
/// # Errors
/// They cannot be read.
pub(super) fn texts(root: &RootDir) -> Result<Texts> {
    let mut texts = Texts::new();
    for file in accounts::FILES {
        if let Some(bytes) = root.read_at_most(file, accounts::MAX_BYTES)? {
            texts.insert(file, lossless::decode(&bytes));
        }
    }
    Ok(texts)
}

/// What is kept beside what a system has.
pub(super) struct Kept<'a> {
    /// The files of accounts.
    pub(super) accounts: &'a Texts,
    /// What was known before, of which the entries with these paths, and below them, stay.
    pub(super) old: Option<&'a Base>,
    pub(super) paths: &'a [PathBuf],
}

/// Writes to `root` what the system at `of` has, as what it had in common with `partner`. If the
/// power fails meanwhile, some of it is older: what differs since then is kept and named.
pub(super) fn keep(
    root: &RootDir,
    of: &RootDir,
    partner: Id,
    number: u64,
    more: &Kept<'_>,
) -> Result<()> {
    for file in accounts::FILES {
        match more.accounts.get(file) {
            Some(text) => root.write(kept(file), &lossless::encode(text), 0o600)?,
            None => root.remove(kept(file))?,
        }
    }
    let list_text = root.text(LIST_PATH)?.unwrap_or_else(|| DEFAULT.to_owned());
    let (items, _) = parse(&list_text);
    root.write(kept("list"), list_text.as_bytes(), 0o600)?;
    root.write(kept("of"), format!("{partner} {number}\n").as_bytes(), 0o600)?;
    let all = Exclude::nothing().exclude("/*".as_ref());
    let rules = items.iter().fold(all, |rules, item| rules.include(item.path.as_os_str()));
    let (tree, nothing) = (Tree::open(of.path(), true)?, Manifest::default());
    let mut base = record(&tree, &rules, &nothing, Unknown::Read, &mut |_| Ok(()))?.manifest;
    if let Some(old) = more.old {
        base.keep_of(&old.manifest, more.paths);
    }
    manifest::write_at(root, MANIFEST, &base)
}

/// As [`keep_of_copy`]. A BE without it works as well: then nothing is taken over.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn keep_or_warn(root: &Path, source: Option<Id>, report: &mut dyn Report) -> Result<()> {
    match keep_of_copy(root, source) {
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(why) => {
            report.fall_short(&format!(
                "what the boot environment takes over at its first start is not known: {why}"
            ));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Where a file of accounts is kept as it was before the last one was taken over, relative to the
/// root.
pub(super) fn replaced(file: &str) -> PathBuf {
    Path::new("var/lib/lifeboat/sync-replaced").join(name(file))
}

fn kept(file: &str) -> PathBuf {
    Path::new(FILES).join(name(file))
}

fn name(file: &str) -> &std::ffi::OsStr {
    Path::new(file).file_name().unwrap_or_default()
}
