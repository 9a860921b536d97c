//! Copies ranges from one device to another. One thread reads in the order of the device and two
//! threads write, so that both devices always have a request. The calling thread reports progress
//! and checks for signals.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use super::device::{Buffer, Device};
use super::overlay::Overlay;
use crate::error::Result;

/// Size of a request in bytes.
const CHUNK: usize = 4 << 20;

/// The most requests that are being read, waiting, or being written.
const BUFFERS: usize = 8;

/// Threads that write.
const WRITERS: usize = 2;

/// Where the bytes of a range come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The source, with the overlay applied.
    Source,
    /// Zeros.
    Zeros,
    /// The overlay, which defines every byte of the range.
    Overlay,
}

/// A range that is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The same range of bytes on both devices.
    pub range: Range<u64>,
    /// Where the bytes come from.
    pub origin: Origin,
}

/// A request between reading and writing.
struct Chunk {
    range: Range<u64>,
    /// The bytes, or `None` for zeros.
    buffer: Option<Buffer>,
}

struct Pump<'a> {
    source: &'a Device,
    target: &'a Device,
    overlay: &'a Overlay,
    /// Set after an error: what has been read is no longer written.
    stopped: AtomicBool,
}

/// Copies all parts. Calls `moved` with the size of each request that was written.
///
/// # Errors
/// The first error of reading, of writing or from `moved`. It stops the copy.
pub fn pump(
    source: &Device,
    target: &Device,
    parts: &[Part],
    overlay: &Overlay,
    moved: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let pump = Pump { source, target, overlay, stopped: AtomicBool::new(false) };
    let (full, filled) = sync_channel::<Result<Chunk>>(BUFFERS);
    let (free, emptied) = sync_channel(BUFFERS);
    let (done, finished) = channel();
    for _ in 0..BUFFERS {
        // The channel has room for all of them, and its receiver still exists.
        let _ = free.send(Buffer::new(CHUNK));
    }
    let filled = Mutex::new(filled);
    let mut outcome = Ok(());
    std::thread::scope(|scope| {
        scope.spawn(|| pump.read(parts, emptied, full));
        for _ in 0..WRITERS {
            let (free, done, filled, pump) = (free.clone(), done.clone(), &filled, &pump);
            scope.spawn(move || pump.write(filled, &free, &done));
        }
        drop((free, done));
        for result in finished {
            let result = result.and_then(&mut *moved);
            if result.is_err() && outcome.is_ok() {
                pump.stopped.store(true, Ordering::Relaxed);
                outcome = result;
            }
        }
    });
    outcome
}

fn chunks(part: &Part) -> impl Iterator<Item = Range<u64>> + use<> {
    let Range { start, end } = part.range;
    // Zeros need no buffer, but must be cut too, so that a signal is noticed soon.
    let size = if part.origin == Origin::Zeros { 16 * CHUNK } else { CHUNK };
    (start..end).step_by(size).map(move |at| at..end.min(at + size as u64))
}

fn length(range: &Range<u64>) -> usize {
    (range.end - range.start) as usize
}

impl Pump<'_> {
    /// Reads all parts. When it returns it drops its ends of the channels, which ends the writers.
    fn read(&self, parts: &[Part], emptied: Receiver<Buffer>, full: SyncSender<Result<Chunk>>) {
        for part in parts {
            for range in chunks(part) {
                let chunk = match part.origin {
                    Origin::Zeros => Ok(Chunk { range, buffer: None }),
                    origin => {
                        let Ok(mut buffer) = emptied.recv() else { return };
                        let filled = self.fill(&range, origin, &mut buffer);
                        filled.map(|()| Chunk { range, buffer: Some(buffer) })
                    }
                };
                let failed = chunk.is_err();
                if self.stopped.load(Ordering::Relaxed) || full.send(chunk).is_err() || failed {
                    return;
                }
            }
        }
    }

    fn fill(&self, range: &Range<u64>, origin: Origin, buffer: &mut Buffer) -> Result<()> {
        let bytes = buffer.get_mut(length(range));
        match origin {
            Origin::Source => self.source.read(range.start, bytes)?,
            Origin::Zeros | Origin::Overlay => bytes.fill(0),
        }
        self.overlay.apply(range.start, bytes);
        Ok(())
    }

    fn write(
        &self,
        filled: &Mutex<Receiver<Result<Chunk>>>,
        free: &SyncSender<Buffer>,
        done: &Sender<Result<u64>>,
    ) {
        loop {
            let next = filled.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(chunk) = next else { return };
            if self.stopped.load(Ordering::Relaxed) {
                // Returns the buffer, so that the reader wakes up and sees that it is to stop.
                if let Ok(Chunk { buffer: Some(buffer), .. }) = chunk {
                    let _ = free.send(buffer);
                }
                continue;
            }
            let written = chunk.and_then(|Chunk { range, buffer }| {
                match buffer {
                    Some(buffer) => {
                        self.target.write(range.start, buffer.get(length(&range)))?;
                        // This fails only if the reader has ended.
                        let _ = free.send(buffer);
                    }
                    None => self.zero(&range)?,
                }
                Ok(range.end - range.start)
            });
            if done.send(written).is_err() {
                return;
            }
        }
    }

    fn zero(&self, range: &Range<u64>) -> Result<()> {
        if self.target.zero(range)? {
            return Ok(());
        }
        let zeros = Buffer::new(CHUNK);
        for at in (range.start..range.end).step_by(CHUNK) {
            self.target.write(at, zeros.get((range.end - at).min(CHUNK as u64) as usize))?;
        }
        Ok(())
    }
}
