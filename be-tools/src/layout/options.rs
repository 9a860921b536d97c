//! The mount options that a new file system inherits from that of the source.

use std::path::Path;

use super::placement::FsType;
use crate::environment::FileSystemUse;
use crate::storage::subvolume::Subvolume;

/// The options of the source's file system that apply to the new one. Options of another type, of a
/// subvolume and of other devices are left out (mount(8), ext4(5), xfs(5), btrfs(5)).
pub(super) fn inherited_options(line: &FileSystemUse, fs_type: FsType) -> String {
    const GENERIC: [&str; 29] = [
        "defaults",
        "auto",
        "noauto",
        "async",
        "sync",
        "dirsync",
        "atime",
        "noatime",
        "diratime",
        "nodiratime",
        "relatime",
        "norelatime",
        "strictatime",
        "nostrictatime",
        "lazytime",
        "nolazytime",
        "dev",
        "nodev",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "ro",
        "rw",
        "nofail",
        "discard",
        "nodiscard",
        "user",
        "users",
    ];
    const BOUND: [&str; 6] =
        ["device=", "logdev=", "rtdev=", "journal_dev=", "journal_path=", "degraded"];
    let same_type = line.fs_type == fs_type.as_str();
    let keep = |option: &&str| {
        let generic =
            GENERIC.contains(option) || option.starts_with("x-") || option.starts_with("comment=");
        let bound = Subvolume::is_named_in(option) || BOUND.iter().any(|b| option.starts_with(b));
        !option.is_empty() && (generic || same_type && !bound)
    };
    let mut options: Vec<&str> = line.options.split(',').filter(keep).collect();
    if options.is_empty() {
        options.push("defaults");
    }
    if line.mountpoint == Path::new("/")
        && fs_type.is_ext()
        && !options.iter().any(|o| o.starts_with("errors="))
    {
        options.push("errors=remount-ro");
    }
    options.join(",")
}
