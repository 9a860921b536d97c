//! Block devices, what they hold, and mounts.
