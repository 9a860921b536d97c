//! What the packages of a distribution need.

pub mod debian;
