//! Block copy: copies the blocks of a file system that nothing writes to. Only used blocks are
//! copied, in the order of the device. The super blocks are written last, with a new UUID and
//! label: until then, no program recognises what the target holds (docs/design.md, invariant 4).

mod blueprint;
mod crc32c;
mod device;
mod ext4;
mod extents;
mod left_out;
mod overlay;
mod pump;
mod replacement;
mod xfs;
mod xfs_log;

#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;

pub use blueprint::{Identity, Unfit};
pub use left_out::remove_left_out;
pub use overlay::Edit;
pub use replacement::edits_to_replace;

use crate::error::{Error, Result};
use crate::plan::{Progress, Report, go_on};
use crate::storage::hold::Hold;
use crate::storage::probe::{Kind, Source, super_block};
use blueprint::Blueprint;
use device::Device;
use extents::{rounded_in, rounded_out, union, without};
use overlay::Overlay;
use pump::{Origin, Part, pump};

/// Size of the start of the target that is written just before the primary super block. After an
/// interrupted copy nothing is there, and the next attempt finds a blank device.
const HEAD: u64 = 1 << 20;

/// A file system whose blocks can be copied, by its super block.
#[derive(Debug)]
pub enum FileSystem {
    /// An ext2, ext3 or ext4.
    Ext(ext4::Ext),
    /// An xfs with checksums.
    Xfs(xfs::Xfs),
}

/// Reads the super block of `device`.
///
/// # Errors
/// Why its blocks cannot be copied, which may be a read error.
pub fn inspect(device: &Path) -> Result<FileSystem, Unfit> {
    let opened = Device::source(device).map_err(|error| Unfit(error.to_string()))?;
    FileSystem::inspect(&opened)
}

impl FileSystem {
    fn inspect(source: &dyn Source) -> Result<Self, Unfit> {
        let found = super_block(source).map_err(|error| Unfit(error.to_string()))?;
        match found.map(|found| found.kind) {
            Some(Kind::Ext2 | Kind::Ext3 | Kind::Ext4) => {
                ext4::Ext::inspect(source).map(FileSystem::Ext)
            }
            Some(Kind::Xfs) => xfs::Xfs::inspect(source).map(FileSystem::Xfs),
            Some(other) => Unfit::new(format!(
                "it is {}, and only ext2, ext3, ext4 and xfs are copied by blocks",
                other.description()
            )),
            None => Unfit::new("it is not a file system that be knows"),
        }
    }

    /// Size of the file system in bytes.
    pub fn size(&self) -> u64 {
        match self {
            FileSystem::Ext(ext) => ext.size(),
            FileSystem::Xfs(xfs) => xfs.size(),
        }
    }

    /// The largest logical block size of a device that can hold the file system.
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

/// Returns how many bytes a copy of `device` would write.
///
/// # Errors
/// Why its blocks cannot be copied.
pub fn measure(device: &Path) -> Result<u64, Unfit> {
    measure_source(&Device::source(device).map_err(|error| Unfit(error.to_string()))?)
}

/// As [`measure`], of the bytes of a device.
///
/// # Errors
/// As [`measure`].
pub fn measure_source(source: &dyn Source) -> Result<u64, Unfit> {
    let identity = Identity { uuid: uuid::Uuid::nil(), label: String::new() };
    let blueprint = FileSystem::inspect(source)?.blueprint(source, &identity)?;
    Ok(total(&blueprint.parts(&[])))
}

/// A request to copy a file system.
#[derive(Debug)]
pub struct BlockCopyRequest<'a> {
    /// The source device. Nothing may write to it.
    pub source: &'a Path,
    /// The target device, at least as large as the file system on the source. What it holds is
    /// lost.
    pub target: &'a Hold,
    /// The UUID and label of the copy.
    pub identity: Identity,
    /// Differences between the files of the source and of the copy.
    pub edits: Vec<Edit>,
}

/// Copies a file system. When this returns, the copy is synced and has its own identity. It is not
/// yet checked, and not yet as large as a larger target device.
///
/// # Errors
/// When a device cannot be read or written, when the source cannot be copied by blocks or changes
/// meanwhile, and [`Error::Interrupted`]. The target then holds nothing that a program recognises.
pub fn copy(request: &BlockCopyRequest<'_>, report: &mut dyn Report) -> Result<()> {
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
    let before = SourceState::read(&source, primary)?;

    let target = Device::target(request.target)?;
    if target.len() < blueprint.size {
        return Err(Error::Failed(format!(
            "{} is smaller than the file system on {}: name a larger device, or use --method copy",
            target.path().display(),
            source.path().display()
        )));
    }
    target.erase()?;
    // Only whole units can be written with O_DIRECT, so they are cut out around the super blocks.
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
        report.progress(&Progress { bytes, total_bytes: Some(total), ..Progress::default() });
    };
    let mut interruptible = |more| {
        moved(more);
        go_on()
    };
    pump(&source, &target, &body, &overlay, &mut interruptible)?;
    target.sync()?;
    if before != SourceState::read(&source, primary)? {
        return Err(Error::Failed(format!(
            "{} was mounted for writing while it was copied: unmount it, then run the command \
            again",
            source.path().display()
        )));
    }
    let whole = |range: &Range<u64>| Part { range: range.clone(), origin: Origin::Source };
    let backups: Vec<_> = backups.iter().map(whole).collect();
    pump(&source, &target, &backups, &overlay, &mut |_| go_on())?;
    target.sync()?;
    // From here on signals are ignored: a target that is half recognisable must not be left behind.
    let mut uninterruptible = |more| {
        moved(more);
        Ok(())
    };
    pump(&source, &target, &head, &overlay, &mut uninterruptible)?;
    target.sync()?;
    pump(&source, &target, &[whole(&last)], &overlay, &mut |_| Ok(()))?;
    target.sync()
}

/// What changes as soon as the source is mounted for writing.
#[derive(PartialEq, Eq)]
struct SourceState {
    super_block: Vec<u8>,
    /// Where the log of a mounted xfs ends. xfs may not write its super block for a while.
    log_head: Option<String>,
}

impl SourceState {
    fn read(source: &Device, primary: &Edit) -> Result<Self> {
        let mut super_block = vec![0; primary.bytes.len()];
        source.read_at(primary.at, &mut super_block).map_err(|error| Error::Io {
            doing: format!("reading the super block of {}", source.path().display()),
            source: error,
        })?;
        let name = source.path().canonicalize().ok();
        let name = name.as_deref().and_then(Path::file_name).unwrap_or_default();
        let log = Path::new("/sys/fs/xfs").join(name).join("log/log_head_lsn");
        Ok(SourceState { super_block, log_head: std::fs::read_to_string(log).ok() })
    }
}

fn total(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.range.end - part.range.start).sum()
}

impl Blueprint {
    /// Everything except what is `withheld`, sorted, and cut at [`HEAD`].
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

/// Cuts a range in two at [`HEAD`].
fn cut(range: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let middle = HEAD.clamp(range.start, range.end);
    [range.start..middle, middle..range.end].into_iter().filter(|part| !part.is_empty())
}
