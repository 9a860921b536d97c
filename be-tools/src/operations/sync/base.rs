//! What the files of the list were when a BE was last equal to its source: what has been changed
//! since, in either of them, shows by it.

use std::path::{Path, PathBuf};

use super::accounts;
use super::list::{DEFAULT, Item, LIST_PATH, parse};
use crate::environment::manifest;
use crate::error::{Error, Result};
use crate::plan::Report;
use crate::root_dir::RootDir;
use crate::tree::exclude::Exclude;
use crate::tree::listing::Tree;
use crate::tree::manifest::{Manifest, Unknown, record};

/// Where it is, relative to the root of the BE: a manifest, and the files of accounts themselves.
const MANIFEST: &str = "var/lib/lifeboat/sync-base.zst";
const FILES: &str = "var/lib/lifeboat/sync-base";

/// The list of the BE at `root`, or the default one; and sentences about its lines.
///
/// # Errors
/// It cannot be read.
pub(super) fn list(root: &RootDir) -> Result<(Vec<Item>, Vec<String>)> {
    Ok(parse(root.text(LIST_PATH)?.as_deref().unwrap_or(DEFAULT)))
}

/// Keeps what the files of the list are now, in the BE mounted as a whole at `root`.
///
/// # Errors
/// It cannot be read or written, and [`Error::Interrupted`].
pub(crate) fn keep(root: &Path) -> Result<()> {
    let top = RootDir::open(root)?;
    let (items, _) = list(&top)?;
    let all = Exclude::nothing().exclude("/*".as_ref());
    let rules = items.iter().fold(all, |rules, item| rules.include(item.path.as_os_str()));
    let (tree, nothing) = (Tree::open(root, true)?, Manifest::default());
    let base = record(&tree, &rules, &nothing, Unknown::Read, &mut |_| Ok(()))?.manifest;
    for file in accounts::FILES {
        let kept = kept(file);
        match top.read(file)? {
            Some(bytes) => top.write(&kept, &bytes, 0o600)?,
            None => top.remove(&kept)?,
        }
    }
    manifest::write_at(&top, MANIFEST, &base)
}

/// As [`keep`]. A BE without it works as well: then nothing that differs is overwritten.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn keep_or_warn(root: &Path, report: &mut dyn Report) -> Result<()> {
    match keep(root) {
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

/// What was kept; `None` if nothing was.
///
/// # Errors
/// It cannot be read.
pub(super) fn read(root: &RootDir) -> Result<Option<Manifest>> {
    manifest::read_at(root, MANIFEST.as_ref())
}

/// What a file of accounts was; empty if there was none.
///
/// # Errors
/// It cannot be read.
pub(super) fn account_file(root: &RootDir, file: &str) -> Result<String> {
    Ok(root.text(kept(file))?.unwrap_or_default())
}

fn kept(file: &str) -> PathBuf {
    Path::new(FILES).join(Path::new(file).file_name().unwrap_or_default())
}
