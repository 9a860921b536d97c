//! The tree copy engine.
