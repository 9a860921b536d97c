//! One target under libFuzzer: the one that `LIFEBOAT_FUZZ_TARGET` names. `make fuzz` starts it.
#![no_main]

use std::sync::OnceLock;

use fuzz::{
    Allocator, MAX_BYTES, MAX_TIME, TARGET_VARIABLE, Target, measure, named, use_signal_stack,
};
use libfuzzer_sys::fuzz_target;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var(TARGET_VARIABLE).unwrap_or_default();
        named(&name).unwrap_or_else(|| panic!("{TARGET_VARIABLE}={name:?} is not a target"))
    })
}

fuzz_target!(init: use_signal_stack(), |bytes: &[u8]| {
    let measured = measure(|| (target().run)(bytes));
    assert!(measured.bytes <= MAX_BYTES, "{} bytes of memory", measured.bytes);
    assert!(measured.time <= MAX_TIME, "{:?} of a processor", measured.time);
});
