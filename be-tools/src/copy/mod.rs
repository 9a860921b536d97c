//! The tree copy engine: one file system's tree into a target folder, with everything an inode has.
//!
//! Three stages work at once. The walker lists the source in the order of its inodes and makes the target's folders;
//! a few threads open what it found and tell the kernel what will be read, so that the disk has many requests before
//! it at a time; writers make the entries. Bounded queues between them bound the memory. The calling thread reports
//! and listens to signals.

mod again;
pub mod block;
mod content;
mod engine;
mod entry;
mod exclude;
mod folders;
mod glob;
mod links;
mod metadata;
mod queue;
mod tree;
mod walk;

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

pub use exclude::Exclude;

use crate::error::{Doing, Error, Result};
use crate::plan::{Progress, Report, go_on};
use engine::Engine;
use exclude::Verdict;
use folders::{Folders, Id, Inode, Side};

/// One copy: a file system of the source into its place in the target.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the source file system is mounted for reading: a private bind mount, so that nothing else is mounted on
    /// it and what lies beneath mount points shows.
    pub source: &'a Path,
    /// Its place in the target's tree. The folder exists; it gets the attributes of the source's root.
    pub target: &'a Path,
    /// Its mount point in the boot environment: `/` or `/boot`. Rules and reports name paths as the BE sees them.
    pub mountpoint: &'a Path,
    /// What is left out.
    pub exclude: Exclude,
    /// The source is in use: walk it a second time and bring over what changed meanwhile.
    pub two_pass: bool,
    /// What [`measure`] found, for the progress.
    pub totals: Option<Totals>,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries of every kind that were made.
    pub files: u64,
    /// Bytes of content, without holes.
    pub bytes: u64,
    /// Further names of files that have several.
    pub hard_links: u64,
    /// What could not be read and is not in the target.
    pub lost: Vec<PathBuf>,
    /// What was written to while it was read the last time: its copy may be a mixture.
    pub changed_during_copy: Vec<PathBuf>,
    /// What the target's file system cannot hold, and of which entry.
    pub not_representable: Vec<(PathBuf, String)>,
}

/// The size of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Entries of every kind.
    pub files: u64,
    /// Bytes allocated on the source's device; a file with several names counts once.
    pub bytes: u64,
}

/// What happened to one entry.
#[derive(Debug)]
enum Trouble {
    /// It could not be read.
    Source(Errno),
    /// The target could not be written: doing what.
    Target(&'static str, Errno),
    /// The copy is being stopped.
    Stopped,
}

/// Copies a tree.
///
/// # Errors
/// When the target cannot be written (full, broken, read-only), when the source's root cannot be read, and
/// [`Error::Interrupted`]. What cannot be read or represented is in the [`Summary`] instead.
pub fn copy_tree(request: &Request<'_>, report: &mut dyn Report) -> Result<Summary> {
    // Attributes of links and devices are reached through it.
    if !Path::new("/proc/self/fd").is_dir() {
        return Err(Error::Failed("copying needs /proc: mount it, then run the command again".into()));
    }
    let since = again::now();
    let mut summary = run(request, None, (0, 0), report)?;
    if request.two_pass {
        report.step("Copying what changed meanwhile");
        let second = run(request, Some(since), (summary.files, summary.bytes), report)?;
        summary.changed_during_copy = second.changed_during_copy;
        summary.not_representable.extend(second.not_representable);
        // Lost at first and read the second time is not lost; lost the second time may have been copied before.
        summary.lost = second.lost;
    }
    for list in [&mut summary.lost, &mut summary.changed_during_copy] {
        list.sort();
        list.dedup();
    }
    summary.not_representable.sort();
    summary.not_representable.dedup();
    let target = open_root(request.target)?;
    rustix::fs::syncfs(&target).at("writing to the device of", request.target)?;
    Ok(summary)
}

fn run(
    request: &Request<'_>,
    since: Option<again::Instant>,
    (files_before, bytes_before): (u64, u64),
    report: &mut dyn Report,
) -> Result<Summary> {
    let source = open_root(request.source)?;
    let target = open_root(request.target)?;
    let folders = Folders::new(request.mountpoint.as_os_str().as_bytes(), source, Some(target))
        .at("reading", request.source)?;
    let engine = Engine::new(request, folders, since);
    let mut tick = |files, bytes| {
        let totals = request.totals;
        report.progress(&Progress {
            // The second pass looks at all folders once more.
            files: if since.is_some() { files_before } else { files },
            bytes: bytes_before + bytes,
            total_files: totals.map(|t| t.files),
            total_bytes: totals.map(|t| t.bytes),
        });
        go_on()
    };
    engine.run(&mut tick)?;
    Ok(engine.into_summary())
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).at("opening", path)
}

/// Measures what [`copy_tree`] would copy, so that too little space is known before anything is written.
///
/// # Errors
/// When the source's root cannot be opened, and [`Error::Interrupted`]. What cannot be read counts nothing.
pub fn measure(source: &Path, mountpoint: &Path, exclude: &Exclude) -> Result<Totals> {
    let root = open_root(source)?;
    let folders = Folders::new(mountpoint.as_os_str().as_bytes(), root, None).at("reading", source)?;
    let mut scale = Scale { folders: &folders, totals: Totals::default(), seen: HashSet::new() };
    walk::walk(&folders, exclude, &mut scale)?;
    Ok(scale.totals)
}

struct Scale<'a> {
    folders: &'a Folders,
    totals: Totals,
    seen: HashSet<Inode>,
}

impl Scale<'_> {
    fn add(&mut self, stat: &Stat) {
        self.totals.files += 1;
        let folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if folder || stat.st_nlink < 2 || self.seen.insert((stat.st_dev, stat.st_ino)) {
            self.totals.bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        }
    }
}

impl walk::Sink for Scale<'_> {
    fn entry(&mut self, folder: Id, name: CString, _: FileType) -> Result<()> {
        let stat = self.folders.open(Side::Source, folder);
        if let Ok(stat) = stat.and_then(|at| rustix::fs::statat(&*at, &*name, AtFlags::SYMLINK_NOFOLLOW)) {
            self.add(&stat);
        }
        Ok(())
    }
    fn folder(&mut self, _: Id, _: Id, _: &CStr, _: &OwnedFd, stat: &Stat) -> Result<bool> {
        go_on()?;
        self.add(stat);
        Ok(true)
    }
    fn mount_point(&mut self, _: Id, _: &CStr, _: &Stat) -> Result<()> {
        self.totals.files += 1;
        Ok(())
    }
    fn listed(&mut self, _: Id, _: Verdict) -> Result<()> {
        Ok(())
    }
    fn lost(&mut self, _: Id, _: &CStr, _: Errno) -> Result<()> {
        Ok(())
    }
}

/// The error for a target that cannot be written.
fn target_error(target: &Path, path: &Path, doing: &str, why: Errno) -> Error {
    match why {
        Errno::NOSPC | Errno::DQUOT => Error::Failed(format!(
            "{} is full ({doing} {}): use a larger device, or leave files out with --exclude",
            target.display(),
            path.display()
        )),
        _ => Error::Io {
            doing: format!("{doing} {} in {}", path.display(), target.display()),
            source: why.into(),
        },
    }
}
