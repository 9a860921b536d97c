//! What has to be done for the packages of one distribution.

pub mod debian;
