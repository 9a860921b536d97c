//! What is wanted of the file systems of a BE.

use std::path::{Path, PathBuf};

/// How a BE is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MountMode {
    /// For reading: not one byte of its devices changes, not even a journal.
    ReadOnly,
    /// For writing. Its set-user-ID programs and device nodes have no effect.
    ReadWrite,
    /// For writing, as the running BE is: for commands in it.
    ForCommands,
}

impl MountMode {
    pub(super) fn writes(self) -> bool {
        matches!(self, MountMode::ReadWrite | MountMode::ForCommands)
    }
}

/// The file systems of a BE that are mounted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum MountScope {
    /// The root alone.
    Root,
    /// The root, /usr and /boot.
    Boot,
    /// The root, and those that no other BE uses.
    Own,
    /// All except the ESP.
    All,
}

/// Which file systems of a BE are wanted, and for what.
#[derive(Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) scope: MountScope,
    pub(crate) mode: MountMode,
    /// Whether programs of the BE see them.
    pub(crate) is_for_programs: bool,
    /// Whether these programs install packages, and so write to /usr, /boot and /var.
    pub(crate) installs_packages: bool,
    /// Mount points that the administrator has named: they are mounted although other BEs use them,
    /// and for writing although they are on other disks.
    pub(crate) writable: &'a [PathBuf],
    /// Paths that are read: the file systems that have them must be there.
    pub(crate) read: &'a [PathBuf],
}

impl Wanted<'_> {
    /// What is wanted where nothing else is said: no programs, and nothing that the administrator has
    /// named.
    pub(crate) fn new(scope: MountScope, mode: MountMode) -> Self {
        Wanted {
            scope,
            mode,
            is_for_programs: false,
            installs_packages: false,
            writable: &[],
            read: &[],
        }
    }
}

/// Whether a BE does not start without the file system on this mount point.
pub(super) fn is_needed_to_boot(mountpoint: &Path) -> bool {
    ["/usr", "/boot"].iter().any(|place| mountpoint == Path::new(place))
}
