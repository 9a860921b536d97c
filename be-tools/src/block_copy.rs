//! Block copy: a file system that nobody writes to, onto a device that takes the same type. Only
//! used blocks are moved, in the order of the device; the super blocks come last, with their new
//! UUID and label, so that until then the target holds nothing that anybody recognises (DESIGN.md,
//! invariant 4).

mod blueprint;
mod crc32c;
mod device;
mod ext4;
mod extents;
mod left_out;
mod overlay;
mod overwrite;
mod pump;
mod xfs;
mod xfs_log;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;

pub use blueprint::{Identity, Unfit};
pub use left_out::remove_left_out;
pub use overlay::Edit;
pub use overwrite::overwrite;

use crate::error::{Error, Result};
use crate::plan::{Progress, Report, go_on};
use crate::storage::probe::{Kind, Source, probe};
use blueprint::Blueprint;
use device::Device;
use extents::{rounded_in, rounded_out, union, without};
use overlay::Overlay;
use pump::{Origin, Part, pump};

/// The start of the target, which is written just before the primary super block: an interrupted
/// copy has nothing there, and the next attempt finds a blank device.
const HEAD: u64 = 1 << 20;

/// A file system whose blocks can be copied, by its super block.
#[derive(Debug)]
pub enum FileSystem {
    /// ext2, ext3 or ext4.
    Ext(ext4::Ext),
    /// xfs with checksums.
    Xfs(xfs::Xfs),
}

/// Looks at the super block of `device`.
///
/// # Errors
/// Why its blocks cannot be copied; errors of reading count as that.
pub fn inspect(device: &Path) -> Result<FileSystem, Unfit> {
    let opened = Device::source(device).map_err(|error| Unfit(error.to_string()))?;
    FileSystem::inspect(&opened)
}

impl FileSystem {
    fn inspect(source: &dyn Source) -> Result<Self, Unfit> {
        match probe(source).kind() {
            Some(Kind::Ext2 | Kind::Ext3 | Kind::Ext4) => {
                ext4::Ext::inspect(source).map(FileSystem::Ext)
            }
            Some(Kind::Xfs) => xfs::Xfs::inspect(source).map(FileSystem::Xfs),
            Some(other) => Unfit::new(format!(
                "it is {}, and only ext2, ext3, ext4 and xfs are copied by blocks",
                other.description()
            )),
            None => Unfit::new("it is no file system that be knows"),
        }
    }

    /// Bytes that it spans.
    pub fn size(&self) -> u64 {
        match self {
            FileSystem::Ext(ext) => ext.size(),
            FileSystem::Xfs(xfs) => xfs.size(),
        }
    }

    /// The largest logical block of a device that it can live on.
    pub fn sector(&self) -> u64 {
        match self {
            FileSystem::Ext(ext) => ext.block_size(),
            FileSystem::Xfs(xfs) => xfs.sector(),
        }
    }

    fn blueprint(&self, source: &dyn Source, identity: &Identity) -> Result<Blueprint, Unfit> {
        match self {
            FileSystem::Ext(ext) => ext.blueprint(source, identity),
            FileSystem::Xfs(xfs) => xfs.blueprint(source, identity),
        }
    }
}

/// Bytes that a copy of `device` would move.
///
/// # Errors
/// What is wrong with the file system, or with its last unmount.
pub fn measure(device: &Path) -> Result<u64, Unfit> {
    let source = Device::source(device).map_err(|error| Unfit(error.to_string()))?;
    let identity = Identity { uuid: uuid::Uuid::nil(), label: String::new() };
    let blueprint = FileSystem::inspect(&source)?.blueprint(&source, &identity)?;
    Ok(total(&blueprint.parts(&[])))
}

/// One copy.
#[derive(Debug)]
pub struct Request<'a> {
    /// A device that nobody writes to.
    pub source: &'a Path,
    /// A device that is at least as large as the file system on the source. What it holds is lost.
    pub target: &'a Path,
    /// What the copy is called.
    pub identity: Identity,
    /// What is different in the copy's files.
    pub edits: Vec<Edit>,
}

/// Copies a file system. When this returns, the copy is on the target, with its own identity; what
/// it lacks is its check, and the room that the device has beyond it.
///
/// # Errors
/// When a device cannot be read or written, [`Error::Interrupted`], and when the source is unfit or
/// changes. The target then holds nothing that is recognised.
pub fn copy(request: &Request<'_>, report: &mut dyn Report) -> Result<()> {
    let source = Device::source(request.source)?;
    let unfit = |why| {
        Error::Failed(format!(
            "the blocks of {} cannot be copied: {why}; use --method copy",
            request.source.display()
        ))
    };
    let blueprint = FileSystem::inspect(&source)
        .and_then(|found| found.blueprint(&source, &request.identity))
        .map_err(unfit)?;
    let primary = &blueprint.primary;
    let before = Trace::of(&source, primary)?;

    let target = Device::target(request.target)?;
    if target.len() < blueprint.size {
        return Err(Error::Failed(format!(
            "{} is smaller than the file system on {}: name a larger device, or use --method copy",
            target.path().display(),
            source.path().display()
        )));
    }
    target.erase()?;
    // Whole units around the super blocks: nothing smaller can be written past the page cache.
    let around = |edit: &Edit| rounded_out(&(edit.at..edit.end()), blueprint.size);
    let last = around(primary);
    let backups = union(blueprint.backups.iter().map(around).collect());
    let backups = without(&backups, std::slice::from_ref(&last));
    let withheld = union(backups.iter().cloned().chain([last.clone()]).collect());
    let parts = blueprint.parts(&withheld);
    let (head, body): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.range.end <= HEAD);

    let edits = request.edits.iter().chain(&blueprint.backups).chain([primary]).cloned().collect();
    let overlay = Overlay::new(edits, blueprint.log);
    let total = total(&head) + total(&body);
    let mut bytes = 0;
    let mut moved = |more| {
        bytes += more;
        report.progress(&Progress { files: 0, bytes, total_files: None, total_bytes: Some(total) });
    };
    let mut heedful = |more| {
        moved(more);
        go_on()
    };
    pump(&source, &target, &body, &overlay, &mut heedful)?;
    target.sync()?;
    if before != Trace::of(&source, primary)? {
        return Err(Error::Failed(format!(
            "{} was mounted for writing while it was copied: unmount it, then run the command again",
            source.path().display()
        )));
    }
    let whole = |range: &Range<u64>| Part { range: range.clone(), origin: Origin::Source };
    let backups: Vec<_> = backups.iter().map(whole).collect();
    pump(&source, &target, &backups, &overlay, &mut |_| go_on())?;
    target.sync()?;
    // What has no more than begun to look like something is not left like that.
    let mut deaf = |more| {
        moved(more);
        Ok(())
    };
    pump(&source, &target, &head, &overlay, &mut deaf)?;
    target.sync()?;
    pump(&source, &target, &[whole(&last)], &overlay, &mut |_| Ok(()))?;
    target.sync()
}

/// What a mount for writing changes at once.
#[derive(PartialEq, Eq)]
struct Trace {
    super_block: Vec<u8>,
    /// Where the log of a mounted xfs ends: it may leave its super block alone.
    log_head: Option<String>,
}

impl Trace {
    fn of(source: &Device, primary: &Edit) -> Result<Self> {
        let mut super_block = vec![0; primary.bytes.len()];
        source.read_at(primary.at, &mut super_block).map_err(|error| Error::Io {
            doing: format!("reading the super block of {}", source.path().display()),
            source: error,
        })?;
        let name = source.path().canonicalize().ok();
        let name = name.as_deref().and_then(Path::file_name).unwrap_or_default();
        let log = Path::new("/sys/fs/xfs").join(name).join("log/log_head_lsn");
        Ok(Trace { super_block, log_head: std::fs::read_to_string(log).ok() })
    }
}

fn total(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.range.end - part.range.start).sum()
}

impl Blueprint {
    /// Everything but what is withheld, in order, cut at the end of the head.
    fn parts(&self, withheld: &[Range<u64>]) -> Vec<Part> {
        let zeros = union(self.zeros.iter().map(rounded_in).collect());
        let log: Vec<_> = self.log.iter().map(|log| log.range()).collect();
        let made = union(zeros.iter().chain(&log).cloned().collect());
        let used = without(&without(&self.used, &made), withheld);
        let with = |ranges: Vec<Range<u64>>, origin| {
            ranges.into_iter().flat_map(cut).map(move |range| Part { range, origin })
        };
        let mut parts: Vec<Part> = with(used, Origin::Source)
            .chain(with(without(&zeros, withheld), Origin::Zeros))
            .chain(with(without(&log, withheld), Origin::Overlay))
            .collect();
        parts.sort_by_key(|part| part.range.start);
        parts
    }
}

/// A range in two at the end of the head.
fn cut(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let middle = HEAD.clamp(range.start, range.end);
    [range.start..middle, middle..range.end].into_iter().filter(|part| !part.is_empty())
}
