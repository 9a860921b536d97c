//! Walking and measuring a directory tree, and reading and writing what is in it.

pub mod compare;
pub mod content;
pub mod directories;
pub mod entry;
pub mod entry_error;
pub mod exclude;
pub mod fscrypt;
pub mod glob;
pub mod inspect;
pub mod links;
pub mod listing;
pub mod manifest;
pub mod measure;
pub mod metadata;
pub mod open;
pub mod queue;
pub mod subvolume;
pub mod walk;
pub mod work_stack;
pub mod working_directory;
pub mod xattr;
