//! `be create`: a new BE from an existing one.
