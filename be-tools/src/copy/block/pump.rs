//! Moves ranges from one device to another: one thread reads ahead in the order of the device, the calling one writes,
//! reports and listens to signals.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::device::{Buffer, Device};
use super::overlay::Overlay;
use crate::error::{Error, Result};

/// Bytes of one request.
const CHUNK: usize = 4 << 20;

/// Requests that wait to be written.
const BUFFERS: usize = 6;

/// Where the bytes of a range come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The source, and what is laid over it.
    Source,
    /// Zeros.
    Zeros,
    /// What is laid over, all of it.
    Overlay,
}

/// A range of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Bytes of both devices.
    pub range: Range<u64>,
    /// Where they come from.
    pub origin: Origin,
}

type Chunk = (Range<u64>, Option<Buffer>);

/// Moves all parts. `moved` hears how many bytes each request had, before it is made.
///
/// # Errors
/// The first of reading, writing and `moved`; the requests under way are then given up.
pub fn pump(
    source: &Device,
    target: &Device,
    parts: &[Part],
    overlay: &Overlay,
    moved: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let (full, filled) = sync_channel::<Result<Chunk>>(BUFFERS);
    let (free, emptied) = sync_channel(BUFFERS);
    for _ in 0..BUFFERS {
        // It has room for all of them, and its other end is still here.
        let _ = free.send(Buffer::new(CHUNK));
    }
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(source, parts, overlay, &emptied, &full));
        // Ends by dropping the channels, which ends the reader.
        let written = write(target, filled, free, moved);
        if reader.join().is_err() {
            return Err(Error::Failed("the thread that reads has died: run the command again".into()));
        }
        written
    })
}

fn chunks(part: &Part) -> impl Iterator<Item = Range<u64>> + use<> {
    let Range { start, end } = part.range;
    // Zeros need no buffer, but a signal must not wait for gigabytes of them.
    let size = if part.origin == Origin::Zeros { 64 * CHUNK } else { CHUNK };
    (start..end).step_by(size).map(move |at| at..end.min(at + size as u64))
}

fn read(
    source: &Device,
    parts: &[Part],
    overlay: &Overlay,
    emptied: &Receiver<Buffer>,
    full: &SyncSender<Result<Chunk>>,
) {
    for part in parts {
        for range in chunks(part) {
            if part.origin == Origin::Zeros {
                if full.send(Ok((range, None))).is_err() {
                    return;
                }
                continue;
            }
            let Ok(mut buffer) = emptied.recv() else { return };
            let bytes = buffer.get_mut((range.end - range.start) as usize);
            let result = match part.origin {
                Origin::Source => source.read(range.start, bytes),
                _ => {
                    bytes.fill(0);
                    Ok(())
                }
            };
            overlay.apply(range.start, bytes);
            let failed = result.is_err();
            if full.send(result.map(|()| (range, Some(buffer)))).is_err() || failed {
                return;
            }
        }
    }
}

fn write(
    target: &Device,
    filled: Receiver<Result<Chunk>>,
    free: SyncSender<Buffer>,
    moved: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    for chunk in filled {
        let (range, buffer) = chunk?;
        moved(range.end - range.start)?;
        match buffer {
            Some(buffer) => {
                target.write(range.start, buffer.get((range.end - range.start) as usize))?;
                // The reader has ended when nobody takes it.
                let _ = free.send(buffer);
            }
            None => zero(target, &range)?,
        }
    }
    Ok(())
}

fn zero(target: &Device, range: &Range<u64>) -> Result<()> {
    if target.zero(range)? {
        return Ok(());
    }
    let zeros = Buffer::new(CHUNK);
    for at in (range.start..range.end).step_by(CHUNK) {
        target.write(at, zeros.get((range.end - at).min(CHUNK as u64) as usize))?;
    }
    Ok(())
}
