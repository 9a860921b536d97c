//! The options of a foreign fstab(5) that reach the kernel. The fstab of a disk is data: of the
//! options of a driver only those that are listed here are used, and never one that names a device
//! or a path. `logdev=/dev/sda3` would make the kernel write a log over another file system.

use rustix::mount::MountFlags;

use super::subvolume::Subvolume;

/// The options for one mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct MountOptions {
    /// Those that every file system has.
    pub(super) flags: MountFlags,
    /// Those of the driver.
    pub(super) data: Vec<String>,
    /// Those that are not used. Options for user space are not among them.
    pub(super) dropped: Vec<String>,
}

/// An option of mount(8) for every file system, and the flags that it sets and clears.
struct Generic {
    name: &'static str,
    set: MountFlags,
    clear: MountFlags,
}

const fn generic(name: &'static str, set: MountFlags, clear: MountFlags) -> Generic {
    Generic { name, set, clear }
}

const NONE: MountFlags = MountFlags::empty();

const GENERIC: &[Generic] = &[
    generic("ro", MountFlags::RDONLY, NONE),
    generic("rw", NONE, MountFlags::RDONLY),
    generic("nosuid", MountFlags::NOSUID, NONE),
    generic("suid", NONE, MountFlags::NOSUID),
    generic("nodev", MountFlags::NODEV, NONE),
    generic("dev", NONE, MountFlags::NODEV),
    generic("noexec", MountFlags::NOEXEC, NONE),
    generic("exec", NONE, MountFlags::NOEXEC),
    generic("sync", MountFlags::SYNCHRONOUS, NONE),
    generic("async", NONE, MountFlags::SYNCHRONOUS),
    generic("dirsync", MountFlags::DIRSYNC, NONE),
    generic("noatime", MountFlags::NOATIME, NONE),
    generic("atime", NONE, MountFlags::NOATIME),
    generic("nodiratime", MountFlags::NODIRATIME, NONE),
    generic("diratime", NONE, MountFlags::NODIRATIME),
    generic("relatime", MountFlags::RELATIME, NONE),
    generic("norelatime", NONE, MountFlags::RELATIME),
    generic("strictatime", MountFlags::STRICTATIME, NONE),
    generic("nostrictatime", NONE, MountFlags::STRICTATIME),
    generic("lazytime", MountFlags::LAZYTIME, NONE),
    generic("nolazytime", NONE, MountFlags::LAZYTIME),
    generic("nosymfollow", MountFlags::NOSYMFOLLOW, NONE),
    generic("symfollow", NONE, MountFlags::NOSYMFOLLOW),
];

/// Options of mount(8) that have no meaning for mount(2), and those that it accepts without effect.
const USER_SPACE: &str = "\
    defaults auto noauto user nouser users owner noowner group nogroup nofail fail _netdev \
    loud silent mand nomand iversion noiversion";

/// Beginnings of options for other programs. `errors=` is decided by `on_errors` instead, and
/// `fatal_errors=` is its name for btrfs.
const USER_SPACE_PREFIXES: &[&str] =
    &["x-", "X-", "comment=", "helper=", "uhelper=", "errors=", "fatal_errors="];

/// ext4(5), and Documentation/admin-guide/ext4.rst. Left out are those that name a journal device
/// or a quota file (`journal_dev`, `journal_path`, `usrjquota`), another super block (`sb`), or that
/// skip the journal (`noload`).
const EXT: &str = "\
    acl noacl user_xattr nouser_xattr barrier nobarrier data commit discard nodiscard delalloc \
    nodelalloc auto_da_alloc noauto_da_alloc journal_checksum nojournal_checksum \
    journal_async_commit journal_ioprio quota noquota usrquota grpquota prjquota stripe \
    inode_readahead_blks max_batch_time min_batch_time resuid resgid init_itable noinit_itable \
    dioread_lock dioread_nolock nombcache grpid nogrpid bsdgroups sysvgroups bsddf minixdf \
    i_version dax max_dir_size_kb bh nobh orlov oldalloc block_validity noblock_validity \
    prefetch_block_bitmaps no_prefetch_block_bitmaps check nocheck nouid32 mb_optimize_scan";

/// xfs(5), and Documentation/admin-guide/xfs.rst. Left out are `logdev` and `rtdev`, and
/// `norecovery`.
const XFS: &str = "\
    allocsize attr2 noattr2 barrier nobarrier dax discard nodiscard grpid nogrpid bsdgroups \
    sysvgroups filestreams ikeep noikeep inode32 inode64 largeio nolargeio lifetime logbufs \
    logbsize max_atomic_write noalign nouuid sunit swidth swalloc wsync quota noquota uquota \
    usrquota uqnoenforce qnoenforce gquota grpquota gqnoenforce pquota prjquota pqnoenforce";

/// btrfs(5). Left out are `device`, `degraded`, and those for rescue and repair.
const BTRFS: &str = "\
    acl noacl autodefrag noautodefrag barrier nobarrier commit compress compress-force datacow \
    nodatacow datasum nodatasum discard nodiscard enospc_debug noenospc_debug flushoncommit \
    noflushoncommit inode_cache noinode_cache max_inline metadata_ratio skip_balance \
    space_cache nospace_cache ssd nossd ssd_spread nossd_spread thread_pool treelog notreelog \
    user_subvol_rm_allowed";

/// Documentation/filesystems/vfat.rst
const VFAT: &str = "\
    allow_utime check codepage discard dmask dos1xfloppy fmask flush gid iocharset nfs \
    nonumtail quiet rodir shortname showexec sys_immutable time_offset tz uid umask uni_xlate \
    usefree utf8";

fn of_driver(fs_type: &str) -> &'static str {
    match fs_type {
        "ext2" | "ext3" | "ext4" => EXT,
        "xfs" => XFS,
        "btrfs" => BTRFS,
        "vfat" => VFAT,
        _ => "",
    }
}

/// Whether a list has this word.
fn has(list: &str, name: &str) -> bool {
    list.split_whitespace().any(|word| word == name)
}

/// Whether a value is a number, a size or a word, and cannot be a path.
fn is_plain(value: &str) -> bool {
    !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b':' | b'.'))
}

impl MountOptions {
    /// The options in the fourth field of a line of fstab(5). The subvolume of a btrfs is not among
    /// them: it belongs to the volume.
    pub(super) fn of_fstab(fs_type: &str, options: &str) -> Self {
        let mut all = MountOptions { flags: NONE, data: Vec::new(), dropped: Vec::new() };
        for option in options.split(',') {
            all.add(fs_type, option);
        }
        all
    }

    fn add(&mut self, fs_type: &str, option: &str) {
        if let Some(Generic { set, clear, .. }) = GENERIC.iter().find(|g| g.name == option) {
            self.flags = (self.flags | *set) - *clear;
            return;
        }
        let is_for_user_space = option.is_empty()
            || has(USER_SPACE, option)
            || USER_SPACE_PREFIXES.iter().any(|prefix| option.starts_with(prefix))
            || fs_type == "btrfs" && Subvolume::is_named_in(option);
        if is_for_user_space {
            return;
        }
        let (name, value) =
            option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
        let is_known = has(of_driver(fs_type), name) && value.is_none_or(is_plain);
        if is_known { &mut self.data } else { &mut self.dropped }.push(option.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(fs_type: &str, options: &str) -> String {
        MountOptions::of_fstab(fs_type, options).data.join(",")
    }

    #[test]
    fn no_option_that_names_a_device_or_a_path_is_used() {
        for (fs_type, option) in [
            ("xfs", "logdev=/dev/sda3"),
            ("xfs", "rtdev=/dev/sda3"),
            ("xfs", "logdev=sda3"),
            ("ext4", "journal_path=/dev/sda3"),
            ("ext4", "journal_dev=0x803"),
            ("ext3", "journal=/dev/sda3"),
            ("ext4", "usrjquota=aquota.user"),
            ("ext4", "sb=131072"),
            ("ext4", "noload"),
            ("ext4", "data=/dev/sda3"),
            ("btrfs", "device=/dev/sdb"),
            ("btrfs", "degraded"),
            ("btrfs", "rescue=all"),
            ("xfs", "norecovery"),
            ("vfat", "iocharset=../../x"),
            ("ext4", "compress=zstd"),
            ("f2fs", "compress_extension=so"),
            ("ext4", "context=\"system_u:object_r:tmp_t:s0"),
            ("ext4", "loop"),
            ("ext4", "commit="),
        ] {
            let options = MountOptions::of_fstab(fs_type, &format!("noatime,{option},nodev"));
            assert_eq!(options.data, Vec::<String>::new(), "{fs_type}: {option}");
            assert_eq!(options.dropped, [option], "{fs_type}");
            assert_eq!(options.flags, MountFlags::NOATIME | MountFlags::NODEV);
        }
    }

    #[test]
    fn options_of_each_driver_are_used_as_they_are_written() {
        for (fs_type, options) in [
            ("ext4", "data=ordered,barrier=0,commit=30,nobh,acl,quota"),
            ("xfs", "logbsize=256k,inode64,allocsize=64m,prjquota"),
            ("btrfs", "compress=zstd:3,ssd,space_cache=v2,discard=async"),
            ("vfat", "umask=0077,codepage=437,iocharset=iso8859-1,shortname=mixed,utf8=1"),
        ] {
            assert_eq!(data(fs_type, options), options);
            assert_eq!(MountOptions::of_fstab(fs_type, options).dropped, Vec::<String>::new());
        }
    }

    #[test]
    fn what_is_for_other_programs_is_neither_used_nor_reported() {
        let options = "defaults,user,nofail,x-systemd.automount,X-mount.mkdir=0700,uhelper=udisks2,\
            errors=panic,comment=a,subvol=@,subvolid=256,mand,_netdev";
        assert_eq!(MountOptions::of_fstab("btrfs", options), MountOptions::of_fstab("btrfs", ""));
        assert_eq!(MountOptions::of_fstab("ext4", "subvol=@").dropped, ["subvol=@"]);
    }

    #[test]
    fn the_last_of_two_options_counts() {
        let flags = |options: &str| MountOptions::of_fstab("ext4", options).flags;
        assert_eq!(flags("ro,rw"), MountFlags::empty());
        assert_eq!(flags("rw,ro,noexec,exec"), MountFlags::RDONLY);
        assert_eq!(flags("nosuid,suid,lazytime"), MountFlags::LAZYTIME);
    }
}
