//! The passes of a copy, and the stages of each pass.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::engine::{Count, Engine, FirstPass};
use super::request::{CopyRequest, Mode, Summary};
use crate::error::{Doing, Error, Result};
use crate::plan::{Progress, Report, Unit, go_on};
use crate::timestamp::Timestamp;
use crate::tree::content::ContentCopier;
use crate::tree::directories::{Directories, ROOT, Side};
use crate::tree::entry::EntryRef;
use crate::tree::entry_error::EntryError;
use crate::tree::open::{IfMissing, open_below, open_root};
use crate::tree::queue::{Queue, lock};
use crate::tree::walk;

/// Threads that open files and start reading them ahead. More of them give the disk more requests
/// to order.
const OPENERS: usize = 8;

/// Threads that create entries.
const WRITERS: usize = 3;

/// The most entries that are listed and not yet opened.
const LISTED: usize = 2048;

/// The most files that are open and not yet copied. Their content is being read ahead.
const OPENED: usize = 256;

/// Bytes of content after which the target is synced. Otherwise the kernel leaves most of the
/// writing to the last sync.
const FLUSH: u64 = 64 * 1024 * 1024;

/// How often progress is reported and signals are checked.
const TICK: Duration = Duration::from_millis(100);

/// Threads that compare two trees: enough to use the processors while some wait for the disks.
const COMPARERS: usize = 4;

/// Copies a tree. What cannot be read, or what the target cannot hold, is listed in the
/// [`Summary`].
///
/// # Errors
/// When the target cannot be written (full, broken, read-only), when the source's root cannot be
/// read, and [`Error::Interrupted`].
pub fn copy_tree(request: &CopyRequest<'_>, report: &mut dyn Report) -> Result<Summary> {
    // Extended attributes of symlinks and devices are reached through it.
    if !Path::new("/proc/self/fd").is_dir() {
        return Err(Error::Failed(
            "copying needs /proc: mount it, then run the command again".into(),
        ));
    }
    // Opened before the first write, so that the syncfs(2) at the end reports every write error
    // since then, including those that another process's sync has seen.
    let target = open_root(request.target)?;
    let since = Timestamp::now().earlier();
    let mut summary = run_pass(request, None, Copied::default(), report)?;
    if request.two_pass {
        report.part("copy what changed meanwhile");
        let first_pass = FirstPass {
            since,
            lost: summary.lost.drain(..).collect(),
            more_lost: summary.more_lost > 0,
        };
        let before = Copied { files: summary.files, bytes: summary.bytes };
        let second = run_pass(request, Some(first_pass), before, report)?;
        summary.removed += second.removed;
        summary.changed_during_copy = second.changed_during_copy;
        summary.more_changed = second.more_changed;
        summary.not_representable.extend(second.not_representable);
        summary.more_not_representable += second.more_not_representable;
        summary.remarks.extend(second.remarks);
        summary.more_remarks += second.more_remarks;
        // The second pass has tried again what the first one lost.
        summary.lost = second.lost;
        summary.more_lost = second.more_lost;
    }
    for list in [&mut summary.lost, &mut summary.changed_during_copy] {
        list.sort();
        list.dedup();
    }
    for list in [&mut summary.not_representable, &mut summary.remarks] {
        list.sort();
        list.dedup();
    }
    rustix::fs::syncfs(&target).at("writing to the device of", request.target)?;
    Ok(summary)
}

/// What an earlier pass has copied.
#[derive(Clone, Copy, Default)]
struct Copied {
    files: u64,
    bytes: u64,
}

fn run_pass(
    request: &CopyRequest<'_>,
    first_pass: Option<FirstPass>,
    before: Copied,
    report: &mut dyn Report,
) -> Result<Summary> {
    let source = open_below(request.source, request.from, IfMissing::Fail)?;
    let target = open_below(request.target, request.to, IfMissing::Create)?;
    let directories =
        Directories::new(request.mountpoint.as_os_str().as_bytes(), source, Some(target))
            .at("reading", request.source)?;
    let is_second = first_pass.is_some();
    let engine = Engine::new(request, directories, first_pass);
    let mut tick = |count: Count| {
        let totals = request.totals;
        report.progress(&Progress {
            unit: Unit::Files,
            // The second pass would count all entries again.
            files: if is_second { before.files } else { count.files },
            bytes: before.bytes + count.bytes,
            total_files: match request.mode {
                Mode::Fresh => totals.map(|t| t.files),
                Mode::Refresh(_) => count.total_files.or(totals.map(|t| t.files)),
            },
            // How much a refresh will write is not known before the trees have been compared.
            total_bytes: totals.filter(|_| matches!(request.mode, Mode::Fresh)).map(|t| t.bytes),
        });
        go_on()
    };
    engine.run(&mut tick)?;
    Ok(engine.into_summary())
}

impl Engine<'_> {
    /// Runs the whole pass. Calls `tick` regularly with the count so far; an error from it stops
    /// the copy.
    pub fn run(&self, tick: &mut dyn FnMut(Count) -> Result<()>) -> Result<()> {
        let listed = Queue::new(LISTED, 1);
        let opened = Queue::new(OPENED, OPENERS);
        let writing = AtomicUsize::new(WRITERS);
        let caller = std::thread::current();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let sink = crate::copy::target_tree::TargetTree { engine: self, listed: &listed };
                // Content is read fastest in the order of the walk, which one thread keeps.
                let threads = if self.is_fresh() { 1 } else { COMPARERS };
                if let Err(error) =
                    walk::walk(&self.directories, &self.request.exclude, &sink, threads)
                {
                    self.fail(error);
                }
                self.walked.store(true, Ordering::Relaxed);
                listed.leave();
            });
            for _ in 0..OPENERS {
                scope.spawn(|| {
                    while let Some(job) = listed.pop() {
                        if let Some(job) = self.open(job) {
                            opened.push(job);
                        }
                    }
                    opened.leave();
                });
            }
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    let stop = || self.stopped();
                    let moved = |bytes| {
                        self.bytes.fetch_add(bytes, Ordering::Relaxed);
                    };
                    let mut content = ContentCopier::new(&self.abilities, &stop, &moved);
                    while let Some(job) = opened.pop() {
                        self.write(job, &mut content);
                    }
                    if writing.fetch_sub(1, Ordering::Release) == 1 {
                        caller.unpark();
                    }
                });
            }
            scope.spawn(|| self.keep_flushing(&writing));
            while writing.load(Ordering::Acquire) > 0 {
                std::thread::park_timeout(TICK);
                if !self.stopped()
                    && let Err(error) = tick(self.count())
                {
                    self.fail(error);
                }
            }
        });
        self.link_remaining();
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        self.lock_files()?;
        self.check_recopied();
        tick(self.count())
    }

    fn count(&self) -> Count {
        let walked = self.walked.load(Ordering::Relaxed);
        Count {
            files: self.files.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            total_files: walked.then(|| self.found.load(Ordering::Relaxed)),
        }
    }

    fn keep_flushing(&self, writing: &AtomicUsize) {
        let mut flushed = 0;
        while writing.load(Ordering::Acquire) > 0 && !self.stopped() {
            std::thread::sleep(TICK / 4);
            let copied = self.bytes.load(Ordering::Relaxed);
            if copied - flushed < FLUSH {
                continue;
            }
            flushed = copied;
            let synced = self
                .directories
                .open(Side::Target, ROOT)
                .and_then(|target| rustix::fs::syncfs(&*target));
            if let Err(why) = synced {
                let root = EntryRef { directory: ROOT, name: c"" };
                self.handle_error(root, EntryError::Target("writing", why));
            }
        }
    }
}
