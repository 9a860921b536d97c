//! The manifest of a BE, by which `be verify` proves what it holds. The operation that makes a BE
//! complete writes it last.

use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::plan::{Progress, Report, Unit};
use crate::root_dir::RootDir;
use crate::timestamp::Timestamp;
use crate::tree::exclude::Exclude;
use crate::tree::inspect::Inspected;
use crate::tree::listing::Tree;
use crate::tree::manifest::{self, MAX_ENTRIES, Manifest, Recorded, Unknown};

/// Where it is, relative to the root of the BE: a file of zstd(1) with the text of
/// [`tree::manifest`](crate::tree::manifest).
pub const MANIFEST_PATH: &str = "var/lib/lifeboat/manifest.zst";

/// The longest text of a manifest, in bytes: that of a tree with very long names.
const MAX_TEXT: u64 = 4 << 30;

/// How many lines about what could not be read are reported.
const MOST_LINES: usize = 20;

/// How much of the file is compressed: a third of its size is hashes, which no level makes smaller.
const LEVEL: i32 = 1;

/// Reads the manifest of the BE at `root`; `None` if it has none.
///
/// # Errors
/// It cannot be read, or is none.
pub fn read(root: &RootDir) -> Result<Option<Manifest>> {
    read_at(root, Path::new(MANIFEST_PATH))
}

/// As [`read`], in a file system of the BE, where it has this path.
pub(crate) fn read_at(root: &RootDir, path: &Path) -> Result<Option<Manifest>> {
    let Some(file) = root.file(path)? else { return Ok(None) };
    let damaged = |why: String| {
        Error::Failed(format!(
            "/{MANIFEST_PATH} is damaged ({why}): with `be verify --record` it is written again, \
            of what is there now"
        ))
    };
    let text = zstd::Decoder::new(file).map_err(|why| damaged(why.to_string()))?;
    manifest::parse(BufReader::new(text.take(MAX_TEXT))).map(Some).map_err(damaged)
}

/// Writes the manifest of the BE at `root`.
///
/// # Errors
/// It has too many entries, or cannot be written.
pub fn write(root: &RootDir, manifest: &Manifest) -> Result<()> {
    write_at(root, MANIFEST_PATH, manifest)
}

/// As [`write`], to this path.
pub(crate) fn write_at(root: &RootDir, path: &str, manifest: &Manifest) -> Result<()> {
    if manifest.len() > MAX_ENTRIES {
        let count = manifest.len();
        return Err(Error::Failed(format!("{count} entries are too many for a manifest")));
    }
    let compressed = zstd::Encoder::new(Vec::new(), LEVEL).and_then(|mut encoder| {
        // A bit that flips in it is no damage of what it lists.
        encoder.include_checksum(true)?;
        manifest::write(manifest, &mut encoder)?;
        encoder.flush()?;
        encoder.finish()
    });
    let compressed =
        compressed.map_err(|why| Error::Failed(format!("compressing the manifest: {why}")))?;
    root.write(path, &compressed, 0o600)
}

/// What of a BE its manifest leaves out: what is never copied, the swap files of its fstab, and
/// these mount points of others.
pub(crate) fn rules(swap_files: impl IntoIterator<Item = PathBuf>, others: &[PathBuf]) -> Exclude {
    let proved = Exclude::of_manifests();
    let rules = swap_files.into_iter().fold(proved, |rules, file| rules.never(&file));
    others.iter().fold(rules, |rules, place| rules.only_directory(place))
}

/// Makes the manifest of a BE that is mounted as a whole at `root`.
///
/// # Errors
/// [`Error::Interrupted`], and what `root` is cannot be read.
pub(crate) fn record(
    root: &Path,
    rules: &Exclude,
    known: &Manifest,
    unknown: Unknown,
    report: &mut dyn Report,
) -> Result<Recorded> {
    let total = (!known.is_empty()).then_some(known.len() as u64);
    manifest::record(&Tree::open(root, true)?, rules, known, unknown, &mut |count| {
        report.progress(&progress(count, total));
        Ok(())
    })
}

/// Makes the manifest of a BE that an operation has just changed, mounted as a whole at `root`, and
/// writes it. What was changed since the manifest before is read; if there was none, what was since
/// the operation `began`. A BE without one works as well: what fails is reported as a shortfall.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn renew(
    root: &Path,
    rules: &Exclude,
    began: Option<Timestamp>,
    report: &mut dyn Report,
) -> Result<()> {
    let before = RootDir::open(root).and_then(|top| read(&top)).unwrap_or_else(|why| {
        report.fall_short(&format!("what was not changed now is no longer proved: {why}"));
        None
    });
    let unknown = match &before {
        Some(_) => Unknown::Read,
        None => Unknown::ReadSince(began.unwrap_or_else(Timestamp::now)),
    };
    begin(root, rules, &before.unwrap_or_default(), unknown, report)
}

/// The same for a BE that was just made, of whose content this much is known.
///
/// # Errors
/// [`Error::Interrupted`].
pub(crate) fn begin(
    root: &Path,
    rules: &Exclude,
    known: &Manifest,
    unknown: Unknown,
    report: &mut dyn Report,
) -> Result<()> {
    let renewed = RootDir::open(root).and_then(|top| {
        let recorded = record(root, rules, known, unknown, report)?;
        write(&top, &recorded.manifest)?;
        Ok(recorded.unread)
    });
    match renewed {
        Ok(unread) => {
            say_unread(&unread, report);
            Ok(())
        }
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(why) => {
            // By the old one, what the operation wrote is not damage, but a change.
            report.fall_short(&format!(
                "the manifest was not written, and `be verify` cannot prove what is there: {why}"
            ));
            Ok(())
        }
    }
}

/// Reports what a manifest lacks.
pub(crate) fn say_unread(unread: &[String], report: &mut dyn Report) {
    for what in unread.iter().take(MOST_LINES) {
        report.warn(&format!("the manifest does not have the content of {what}"));
    }
    if let Some(more) = unread.len().checked_sub(MOST_LINES).filter(|more| *more > 0) {
        report.warn(&format!("there are {more} more such lines"));
    }
}

/// The progress of a walk over a tree of which so many entries are known.
pub(crate) fn progress(count: Inspected, total: Option<u64>) -> Progress {
    Progress {
        unit: Unit::Files,
        files: count.entries,
        bytes: count.bytes,
        total_files: total.filter(|total| *total >= count.entries),
        total_bytes: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::root_dir::testing::tree;

    #[test]
    fn a_bit_that_flips_in_a_manifest_is_no_damage_of_what_it_lists() {
        let files: Vec<(String, &str)> =
            (0..50).map(|number| (format!("etc/{number}"), "content\n")).collect();
        let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let (_directory, root) = tree(&files);
        let (rules, nothing) = (rules([], &[]), Manifest::default());
        let mut report = crate::plan::Silent;
        let recorded = record(root.path(), &rules, &nothing, Unknown::Read, &mut report).unwrap();
        write(&root, &recorded.manifest).unwrap();
        let whole = Some(recorded.manifest);
        assert!(read(&root).unwrap() == whole);
        let path = root.path().join(MANIFEST_PATH);
        let bytes = std::fs::read(&path).unwrap();
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            std::fs::write(&path, flipped).unwrap();
            // Some bits of the header say only how to decompress it.
            assert!(read(&root).map_or(true, |found| found == whole), "{place}");
        }
    }
}
