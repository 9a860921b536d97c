//! The capacity of a file system that mkfs would make on a device, estimated before anything is
//! written.

use serde::Serialize;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// The capacity of a new file system, estimated on the safe side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Capacity {
    /// The bytes for content and directories.
    pub bytes: u64,
    /// The number of files and directories, if mkfs fixes it.
    pub files: Option<u64>,
    /// The bytes that an inode needs in addition to its content: the unused part of its last block
    /// (2540 on average for the root of a Debian, with directories counted as a whole), its name,
    /// its inode.
    pub per_entry: u64,
}

/// What is to be put into a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes of content.
    pub bytes: u64,
    /// Files, directories and symlinks.
    pub inodes: u64,
    /// Their names, at least one each.
    pub names: u64,
}

/// The bytes of one more name of a file, at most.
const NAME: u64 = 264;

impl Capacity {
    /// Whether it fits, with some space left.
    pub fn holds(&self, need: Need) -> bool {
        self.needed(need) <= self.bytes && self.has_inodes(need)
    }

    /// Whether there are enough inodes for it.
    pub fn has_inodes(&self, need: Need) -> bool {
        self.files.is_none_or(|files| need.inodes <= files)
    }

    /// The bytes that it needs.
    pub fn needed(&self, Need { bytes, inodes, names }: Need) -> u64 {
        let further_names = names.saturating_sub(inodes).saturating_mul(NAME);
        let content = bytes
            .saturating_add(inodes.saturating_mul(self.per_entry))
            .saturating_add(further_names);
        // A system cannot work on a file system that is completely full.
        content.saturating_add(content / 50)
    }
}

/// The capacity of a file system of this type on a device of `size` bytes, made by [`super::make`].
pub fn capacity(fs_type: &str, size: u64) -> Capacity {
    match fs_type {
        "ext2" | "ext3" | "ext4" => ext(size, fs_type != "ext2"),
        "xfs" => xfs(size),
        "btrfs" => btrfs(size),
        // Clusters have up to 32 KiB, depending on the size. Two tables have four bytes per
        // cluster.
        _ => Capacity {
            bytes: size.saturating_sub(MIB) / 1000 * 990,
            files: None,
            per_entry: 20 << 10,
        },
    }
}

/// mke2fs(8) and the sizes of its `mke2fs.conf`.
fn ext(size: u64, journal: bool) -> Capacity {
    let ratio = match size {
        _ if size < 512 * MIB => 4096,
        _ if size < 4096 * GIB => 16384,
        _ if size < 16384 * GIB => 32768,
        _ => 65536,
    };
    // lib/ext2fs/mkjournal.c, ext2fs_default_journal_size(), blocks of 4 KiB.
    let journal = match size {
        _ if !journal || size < 8 * MIB => 0,
        _ if size < 128 * MIB => 4 * MIB,
        _ if size < GIB => 16 * MIB,
        _ if size < 2 * GIB => 32 * MIB,
        _ if size < 16 * GIB => 64 * MIB,
        _ if size < 32 * GIB => 128 * MIB,
        _ if size < 64 * GIB => 256 * MIB,
        _ if size < 128 * GIB => 512 * MIB,
        _ => GIB,
    };
    let inodes = size / ratio;
    // Bitmaps and descriptors, and the reserved descriptors in every group that has a copy.
    let groups = size / (128 * MIB) + 1;
    let copies = 2 + 3 * u64::from(groups.ilog2());
    let descriptors = copies * (groups * 64 + (4 * MIB).min(size / 1024));
    let taken = inodes * 256 + journal + descriptors + groups * 8192 + MIB;
    Capacity { bytes: size.saturating_sub(taken), files: Some(inodes / 100 * 99), per_entry: 2600 }
}

/// mkfs.xfs(8): a log of 64 MiB to 2 GiB. Inodes of 512 bytes are allocated as needed.
fn xfs(size: u64) -> Capacity {
    let log = (size / 2048).clamp(64 * MIB, 2 * GIB);
    // The free space, inode and reference count trees, and the space that the kernel reserves for
    // them.
    let kept = size / 50 + 24 * MIB;
    Capacity { bytes: size.saturating_sub(log + kept), files: None, per_entry: 3100 }
}

/// mkfs.btrfs(8): metadata is stored twice, and small files are stored in metadata.
fn btrfs(size: u64) -> Capacity {
    // A chunk is allocated for either data or metadata, and stays that.
    let kept = size / 20 + (size / 10).min(256 * MIB);
    Capacity { bytes: size.saturating_sub(kept), files: None, per_entry: 5000 }
}
