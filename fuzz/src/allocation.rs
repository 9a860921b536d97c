//! The memory that a thread holds, the most that it held, and how long it ran.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// More than this is refused. The input that wanted it is a crash, before the machine has no memory
/// left.
const REFUSED: usize = 256 << 20;

/// The counts of one thread. Memory that another thread frees stays counted.
struct Counts {
    held: Cell<usize>,
    peak: Cell<usize>,
}

thread_local! {
    static COUNTS: Counts = const { Counts { held: Cell::new(0), peak: Cell::new(0) } };
}

/// Counts an allocation. Returns false if it is to be refused.
pub(crate) fn allocate(bytes: usize) -> bool {
    let count = |counts: &Counts| {
        let held = counts.held.get().saturating_add(bytes);
        if held > REFUSED {
            return false;
        }
        counts.held.set(held);
        counts.peak.set(counts.peak.get().max(held));
        true
    };
    // A thread that ends has no counts any more.
    COUNTS.try_with(count).unwrap_or(true)
}

/// Counts that memory is freed.
pub(crate) fn free(bytes: usize) {
    let _ = COUNTS.try_with(|counts| counts.held.set(counts.held.get().saturating_sub(bytes)));
}

/// What a call took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// The most bytes that its thread held at a time, without those from before the call. Zero if
    /// the program does not have [`crate::Allocator`].
    pub bytes: usize,
    /// How long it ran on a processor. A machine that is busy or paused adds nothing.
    pub time: Duration,
}

/// How long this thread has run on a processor.
pub(crate) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Calls a function and measures it.
pub fn measure(call: impl FnOnce()) -> Measured {
    let before = COUNTS.with(|counts| {
        counts.peak.set(counts.held.get());
        counts.held.get()
    });
    let start = processor_time();
    call();
    let time = processor_time() - start;
    Measured { bytes: COUNTS.with(|counts| counts.peak.get()).saturating_sub(before), time }
}
