//! The running, unmanaged system becomes a BE.
