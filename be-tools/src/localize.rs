//! The edits that make a copy a system of its own.
