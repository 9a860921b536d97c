//! UUIDs, labels and the machine identity of a copy.
