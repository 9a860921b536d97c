//! Disks -> environments, managed and not.
