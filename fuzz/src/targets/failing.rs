//! Targets that fail for every input: `make fuzz` runs them first, and ends if that is not noticed.

use std::hint::black_box;

use crate::allocation::processor_time;
use crate::limits::{MAX_BYTES, MAX_TIME};

/// Overflows the stack.
pub fn stack(_: &[u8]) {
    fn deeper(depth: u64) -> u64 {
        if depth == u64::MAX { 0 } else { 1 + black_box(deeper(black_box(depth + 1))) }
    }
    black_box(deeper(0));
}

/// Holds one byte too many.
pub fn memory(_: &[u8]) {
    black_box(vec![1_u8; MAX_BYTES + 1]);
}

/// Runs a moment too long.
pub fn time(_: &[u8]) {
    let start = processor_time();
    while processor_time() - start <= MAX_TIME {}
}
