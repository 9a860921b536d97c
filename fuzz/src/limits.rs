//! What a parser may take for one input.

use std::time::Duration;

/// The most bytes of memory that it holds at a time.
pub const MAX_BYTES: usize = 64 << 20;

/// The longest that it runs on a processor.
pub const MAX_TIME: Duration = Duration::from_secs(1);

/// The variable that names the target of `fuzz-target`.
pub const TARGET_VARIABLE: &str = "LIFEBOAT_FUZZ_TARGET";
