//! The tree copy engine: one file system's tree into a target directory, with everything an inode
//! has.
//!
//! Three stages work at once. The walker lists the source in the order of its inodes and makes the
//! target's directories; a few threads open what it found and tell the kernel what will be read, so
//! that the disk has many requests before it at a time; writers make the entries. Bounded queues
//! between them bound the memory. The calling thread reports and listens to signals.

mod again;
pub mod block;
mod compare;
mod content;
mod directories;
mod engine;
mod entry;
mod exclude;
mod glob;
mod links;
mod measure;
mod metadata;
mod place;
mod prune;
mod queue;
mod renew;
mod same;
mod stack;
mod standpoint;
mod temporary;
mod tree;
mod walk;

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode as Permissions, OFlags};
use rustix::io::Errno;

use again::Again;
pub use again::Instant;
pub use exclude::{Exclude, Selection};
pub use measure::{Totals, measure};

use crate::error::{Doing, Error, Result};
use crate::plan::{Progress, Report, go_on};
use directories::Directories;
use engine::Engine;

/// What the target is to the copy.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Empty, or of no worth.
    Fresh,
    /// An earlier copy: what is equal stays, what is gone goes, and nothing is half written under
    /// its own name.
    Refresh(Trust),
}

/// How far an existing target is believed. The default believes nothing that was not looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Trust {
    /// Compare the content of all files, whatever their times say.
    pub checksum: bool,
    /// When the target was last complete. Inodes that were not changed since are as the copy made
    /// them.
    pub complete: Option<Instant>,
    /// When a refresh began that was interrupted: after a power cut, what was written since may
    /// lack its content.
    pub interrupted: Option<Instant>,
}

/// One copy: a file system of the source into its place in the target.
#[derive(Debug)]
pub struct Request<'a> {
    /// Where the source file system is mounted for reading: a private bind mount, so that nothing
    /// else is mounted on it and what lies beneath mount points shows.
    pub source: &'a Path,
    /// Where the target's file system is mounted.
    pub target: &'a Path,
    /// The directory of the source that is copied; empty for all of it. No link leads there.
    pub from: &'a Path,
    /// The directory of the target that it becomes; empty for its root. No link leads there; what
    /// is missing is made.
    pub to: &'a Path,
    /// Its mount point in the boot environment: `/` or `/boot`. Rules and reports name paths as the
    /// BE sees them.
    pub mountpoint: &'a Path,
    /// What is left out; a refresh leaves it alone.
    pub exclude: Exclude,
    /// What is there already.
    pub mode: Mode,
    /// The source is in use: walk it a second time and bring over what changed meanwhile.
    pub two_pass: bool,
    /// What [`measure`] found, for the progress.
    pub totals: Option<Totals>,
}

/// What a copy did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Entries of every kind that are there.
    pub files: u64,
    /// Those of them that were not equal before.
    pub changed: u64,
    /// Entries that the source has no more.
    pub removed: u64,
    /// Bytes of content, without holes.
    pub bytes: u64,
    /// Further names of files that have several.
    pub hard_links: u64,
    /// What could not be read and is not in the target: the first 10,000.
    pub lost: Vec<PathBuf>,
    /// How many more there were.
    pub more_lost: usize,
    /// What was written to while it was read the last time: its copy may be a mixture.
    pub changed_during_copy: Vec<PathBuf>,
    /// How many more there were.
    pub more_changed: usize,
    /// What the target's file system cannot hold, and of which entry.
    pub not_representable: Vec<(PathBuf, String)>,
    /// How many more there were.
    pub more_not_representable: usize,
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
/// When the target cannot be written (full, broken, read-only), when the source's root cannot be
/// read, and [`Error::Interrupted`]. What cannot be read or represented is in the [`Summary`]
/// instead.
pub fn copy_tree(request: &Request<'_>, report: &mut dyn Report) -> Result<Summary> {
    // Attributes of links and devices are reached through it.
    if !Path::new("/proc/self/fd").is_dir() {
        return Err(Error::Failed(
            "copying needs /proc: mount it, then run the command again".into(),
        ));
    }
    // Opened before the first write: it is told of every failed one, also of those that somebody
    // else's sync saw first.
    let target = open_root(request.target)?;
    let since = Instant::now().earlier();
    let mut summary = run(request, None, (0, 0), report)?;
    if request.two_pass {
        report.step("Copying what changed meanwhile");
        let again = Again {
            since,
            lost: summary.lost.drain(..).collect(),
            more_lost: summary.more_lost > 0,
        };
        let second = run(request, Some(again), (summary.files, summary.bytes), report)?;
        summary.removed += second.removed;
        summary.changed_during_copy = second.changed_during_copy;
        summary.more_changed = second.more_changed;
        summary.not_representable.extend(second.not_representable);
        summary.more_not_representable += second.more_not_representable;
        // What was lost at first was tried once more; lost the second time may have been copied
        // before.
        summary.lost = second.lost;
        summary.more_lost = second.more_lost;
    }
    for list in [&mut summary.lost, &mut summary.changed_during_copy] {
        list.sort();
        list.dedup();
    }
    summary.not_representable.sort();
    summary.not_representable.dedup();
    rustix::fs::syncfs(&target).at("writing to the device of", request.target)?;
    Ok(summary)
}

fn run(
    request: &Request<'_>,
    again: Option<Again>,
    (files_before, bytes_before): (u64, u64),
    report: &mut dyn Report,
) -> Result<Summary> {
    let source = open_below(request.source, request.from, Missing::Fails)?;
    let target = open_below(request.target, request.to, Missing::IsMade)?;
    let directories =
        Directories::new(request.mountpoint.as_os_str().as_bytes(), source, Some(target))
            .at("reading", request.source)?;
    let is_second = again.is_some();
    let engine = Engine::new(request, directories, again);
    let mut tick = |count: engine::Count| {
        let totals = request.totals;
        report.progress(&Progress {
            // The second pass looks at all directories once more.
            files: if is_second { files_before } else { count.files },
            bytes: bytes_before + count.bytes,
            total_files: match request.mode {
                Mode::Fresh => totals.map(|t| t.files),
                Mode::Refresh(_) => count.total_files.or(totals.map(|t| t.files)),
            },
            // How much of it differs is not known before it has been compared.
            total_bytes: totals.filter(|_| matches!(request.mode, Mode::Fresh)).map(|t| t.bytes),
        });
        go_on()
    };
    engine.run(&mut tick)?;
    Ok(engine.into_summary())
}

fn open_root(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Permissions::empty()).at("opening", path)
}

/// What becomes of a directory that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Fails,
    IsMade,
}

/// Opens a directory below a mounted file system. A link on the way could lead anywhere, into the
/// running system too.
fn open_below(root: &Path, below: &Path, missing: Missing) -> Result<OwnedFd> {
    let mut directory = open_root(root)?;
    let mut at = PathBuf::from("/");
    for name in below.components() {
        let Component::Normal(name) = name else {
            return Err(Error::Failed(format!("{} is no place below another", below.display())));
        };
        at.push(name);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || rustix::fs::openat(&directory, name, flags, Permissions::empty());
        let opened = match open() {
            Err(Errno::NOENT) if missing == Missing::IsMade => {
                rustix::fs::mkdirat(&directory, name, Permissions::from_raw_mode(0o755))
                    .and_then(|()| open())
            }
            other => other,
        };
        directory = match opened {
            Err(Errno::LOOP | Errno::NOTDIR) => {
                return Err(Error::Failed(format!(
                    "{} is a link or a file in the boot environment, so no file system has its \
                    place there: name the \
                     directory that it leads to",
                    at.display()
                )));
            }
            other => other.at("opening", &root.join(below))?,
        };
    }
    Ok(directory)
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
