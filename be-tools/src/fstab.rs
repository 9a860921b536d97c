//! fstab(5), line-preserving.
