//! `be rename` and `be describe`.
