//! The record of a trial, confirm, the deadline.
