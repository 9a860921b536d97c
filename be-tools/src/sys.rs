//! What is `unsafe` in this crate, and nothing else.
#![allow(unsafe_code, reason = "system calls that no safe wrapper has")]
