//! Directories that fscrypt encrypts (the kernel's `Documentation/filesystems/fscrypt.rst`). With
//! the key, their files read as plain text. Without it they have names that only this file system
//! understands, and no content.

use std::os::fd::OwnedFd;

use crate::sys;

/// Whether an encrypted directory cannot be read, because its key is not there.
///
/// Only policies of version 2 tell. Keys of version 1 may be in a keyring of another process.
pub fn is_locked(directory: &OwnedFd) -> bool {
    let Ok(policy) = sys::encryption_policy(directory) else { return false };
    policy.key_identifier().is_some_and(|identifier| {
        sys::encryption_key_status(directory, identifier) == Ok(sys::KEY_ABSENT)
    })
}
