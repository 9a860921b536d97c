//! A BE mounted as a whole: root, nested and shared file systems.
