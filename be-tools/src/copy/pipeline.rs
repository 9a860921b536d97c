//! The stages of a copy, from the first look to the last sync.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::engine::{Count, Engine, FirstPass};
use super::request::{Mode, Request, Summary};
use crate::error::{Doing, Error, Result};
use crate::plan::{Progress, Report, go_on};
use crate::timestamp::Timestamp;
use crate::tree::content::Content;
use crate::tree::directories::{Directories, ROOT, Side};
use crate::tree::entry_error::EntryError;
use crate::tree::open::{Missing, open_below, open_root};
use crate::tree::queue::{Queue, lock};
use crate::tree::walk;

/// Threads that open files and have them read ahead: what the disk can order at a time.
const OPENERS: usize = 8;

/// Threads that make entries.
const WRITERS: usize = 3;

/// Entries listed and not yet opened.
const LISTED: usize = 2048;

/// Files open and not yet copied; their content is being read ahead.
const OPENED: usize = 256;

/// Content after which the target's device is set to work: otherwise the kernel keeps most of it
/// for the last sync.
const FLUSH: u64 = 64 * 1024 * 1024;

/// How often progress is told and signals are looked at.
const TICK: Duration = Duration::from_millis(100);

/// Threads that compare two trees: one a processor and a few more that wait for the disks.
const COMPARERS: usize = 4;

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
    let since = Timestamp::now().earlier();
    let mut summary = run(request, None, (0, 0), report)?;
    if request.two_pass {
        report.part("copy what changed meanwhile");
        let first_pass = FirstPass {
            since,
            lost: summary.lost.drain(..).collect(),
            more_lost: summary.more_lost > 0,
        };
        let second = run(request, Some(first_pass), (summary.files, summary.bytes), report)?;
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
    first_pass: Option<FirstPass>,
    (files_before, bytes_before): (u64, u64),
    report: &mut dyn Report,
) -> Result<Summary> {
    let source = open_below(request.source, request.from, Missing::Fails)?;
    let target = open_below(request.target, request.to, Missing::IsMade)?;
    let directories =
        Directories::new(request.mountpoint.as_os_str().as_bytes(), source, Some(target))
            .at("reading", request.source)?;
    let is_second = first_pass.is_some();
    let engine = Engine::new(request, directories, first_pass);
    let mut tick = |count: Count| {
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

impl Engine<'_> {
    /// Does the whole walk; `tick` hears how far it is and may end it.
    pub fn run(&self, tick: &mut dyn FnMut(Count) -> Result<()>) -> Result<()> {
        let listed = Queue::new(LISTED, 1);
        let opened = Queue::new(OPENED, OPENERS);
        let writing = AtomicUsize::new(WRITERS);
        let caller = std::thread::current();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let sink = crate::copy::target_tree::TargetTree { engine: self, listed: &listed };
                // What is copied is best read in the order of the walk.
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
                    let mut content = Content::new(&self.abilities, &stop, &moved);
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
        if let Some(error) = lock(&self.failure).take() {
            return Err(error);
        }
        self.lock_files()?;
        self.look_again();
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
                self.trouble(ROOT, c"", EntryError::Target("writing", why));
            }
        }
    }
}
