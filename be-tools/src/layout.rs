//! Source file systems and the user's wishes -> target layout.
