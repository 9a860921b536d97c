//! What is `unsafe`: the allocator that counts, and the stack on which the handler of a stack
//! overflow runs.
#![allow(unsafe_code, reason = "the only file of this crate that may")]

use std::alloc::{GlobalAlloc, Layout, System};

use crate::allocation::{allocate, free};

/// The allocator of a program that measures its parsers.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call is passed on to the allocator of the system with the same arguments, or it
// returns null, which says that there is no memory. The counting does not allocate.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !allocate(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps to the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !allocate(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps to the contract of `alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        free(layout.size());
        // SAFETY: the caller keeps to the contract of `dealloc`, and `pointer` is from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The old bytes are held until the new ones are filled.
        if !allocate(size) {
            return std::ptr::null_mut();
        }
        free(layout.size());
        // SAFETY: the caller keeps to the contract of `realloc`, and `pointer` is from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Gives the signal SIGSEGV a stack of its own. libFuzzer keeps that setting when it installs its
/// handler, which saves the input: without it, a stack overflow would end the process silently.
pub fn use_signal_stack() {
    const SIZE: usize = 1 << 18;
    let stack: &'static mut [u8] = Box::leak(vec![0; SIZE].into_boxed_slice());
    let alternate =
        libc::stack_t { ss_sp: stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: stack.len() };
    // SAFETY: the stack is never freed, and nothing else uses it. A zeroed `sigaction` has the
    // default handler and an empty mask.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        assert_eq!(libc::sigaltstack(&raw const alternate, std::ptr::null_mut()), 0);
        assert_eq!(libc::sigaction(libc::SIGSEGV, &raw const action, std::ptr::null_mut()), 0);
    }
}
