//! The super block of ext2, ext3 and ext4 ("ext4 Data Structures and Algorithms" in the kernel's
//! documentation, `fs/ext4/ext4.h`): all numbers are little-endian.

use std::borrow::Cow;

use crate::block_copy::blueprint::{Identity, Unfit};
use crate::block_copy::crc32c::crc32c;
use crate::storage::probe::{Block, Source};

/// Offset of the primary super block in bytes.
pub const OFFSET: u64 = 1024;
/// Length of a super block in bytes.
pub const LENGTH: usize = 1024;

pub mod compat {
    pub const JOURNAL: u32 = 0x4;
    pub const SPARSE_SUPER_2: u32 = 0x200;
    /// dir_prealloc, imagic_inodes, has_journal, ext_attr, resize_inode, dir_index, sparse_super2,
    /// fast_commit, orphan_file. Not stable_inodes, with which encryption depends on the UUID.
    pub const KNOWN: u32 = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x20 | 0x200 | 0x400 | 0x1000;
}

pub mod incompat {
    pub const RECOVER: u32 = 0x4;
    pub const JOURNAL_DEVICE: u32 = 0x8;
    pub const META_BG: u32 = 0x10;
    pub const BITS_64: u32 = 0x80;
    pub const EA_INODE: u32 = 0x400;
    pub const CSUM_SEED: u32 = 0x2000;
    /// filetype, recover, journal_dev, meta_bg, extents, 64bit, flex_bg, ea_inode, csum_seed,
    /// large_dir, inline_data, encrypt, casefold. Not mmp: another machine may have the file system
    /// mounted.
    pub const KNOWN: u32 = 0x2
        | 0x4
        | 0x8
        | 0x10
        | 0x40
        | 0x80
        | 0x200
        | 0x400
        | 0x2000
        | 0x4000
        | 0x8000
        | 0x1_0000
        | 0x2_0000;
}

pub mod ro_compat {
    pub const SPARSE_SUPER: u32 = 0x1;
    pub const GDT_CSUM: u32 = 0x10;
    pub const BIGALLOC: u32 = 0x200;
    pub const METADATA_CSUM: u32 = 0x400;
    pub const ORPHAN_PRESENT: u32 = 0x1_0000;
    /// sparse_super, large_file, btree_dir, huge_file, gdt_csum, dir_nlink, extra_isize, quota,
    /// bigalloc, metadata_csum, read-only, project, verity, orphan_present.
    pub const KNOWN: u32 = 0x1
        | 0x2
        | 0x4
        | 0x8
        | 0x10
        | 0x20
        | 0x40
        | 0x100
        | 0x200
        | 0x400
        | 0x1000
        | 0x2000
        | 0x8000
        | 0x1_0000;
}

/// A super block that passed all checks.
#[derive(Debug)]
pub struct Ext {
    pub(super) super_block: Vec<u8>,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) block_size: u64,
    /// Number of blocks.
    pub(super) blocks: u64,
    /// The first block of the first group.
    pub(super) first_block: u64,
    pub(super) group_blocks: u64,
    /// How many blocks one bit of a bitmap stands for.
    pub(super) cluster_blocks: u64,
    pub(super) group_inodes: u64,
    pub(super) inode_size: u64,
    pub(super) descriptor_size: u64,
    /// The start value of all checksums, if the file system has checksums.
    pub(super) seed: Option<u32>,
}

impl Ext {
    pub(in crate::block_copy) fn inspect(source: &dyn Source) -> Result<Self, Unfit> {
        let super_block = read(source, OFFSET, LENGTH)?;
        let sb = Block(Cow::Borrowed(&super_block));
        let ext = Self::parse(&sb).ok_or_else(|| Unfit("its super block is not valid".into()))?;
        ext.check_features()?;
        if ext.seed.is_some() && sb.le32(0x3fc) != Some(crc32c(!0, &super_block[..0x3fc])) {
            return Unfit::new("the checksum of its super block is wrong");
        }
        if ext.size() > source.len() {
            return Unfit::new("it is larger than its device");
        }
        Ok(ext)
    }

    pub(super) fn parse(sb: &Block<'_>) -> Option<Self> {
        let [compat, incompat, ro_compat] = [sb.le32(0x5c)?, sb.le32(0x60)?, sb.le32(0x64)?];
        let is = |flag| incompat & flag != 0;
        let log_block = sb.le32(0x18).filter(|log| *log <= 6)?;
        let log_cluster = sb.le32(0x1c).filter(|log| (log_block..=log_block + 16).contains(log));
        let block_size = 1024_u64 << log_block;
        let clustered = ro_compat & ro_compat::BIGALLOC != 0;
        let cluster_blocks = if clustered { 1 << (log_cluster? - log_block) } else { 1 };
        let high = if is(incompat::BITS_64) { u64::from(sb.le32(0x150)?) << 32 } else { 0 };
        let ext = Ext {
            super_block: sb.0.to_vec(),
            compat,
            incompat,
            ro_compat,
            block_size,
            blocks: high | u64::from(sb.le32(0x4)?),
            first_block: u64::from(sb.le32(0x14)?),
            group_blocks: u64::from(sb.le32(0x20)?),
            cluster_blocks,
            group_inodes: u64::from(sb.le32(0x28)?),
            inode_size: if sb.le32(0x4c)? == 0 { 128 } else { u64::from(sb.le16(0x58)?) },
            descriptor_size: if is(incompat::BITS_64) { u64::from(sb.le16(0xfe)?) } else { 32 },
            seed: match (is(incompat::CSUM_SEED), ro_compat & ro_compat::METADATA_CSUM != 0) {
                (_, false) => None,
                (true, true) => Some(sb.le32(0x270)?),
                (false, true) => Some(crc32c(!0, sb.slice(0x68, 16)?)),
            },
        };
        let least_descriptor_size = if is(incompat::BITS_64) { 64 } else { 32 };
        let sound = sb.le16(0x38)? == 0xef53
            && ext.first_block <= 1
            && ext.blocks > ext.first_block
            && ext.blocks.checked_mul(ext.block_size).is_some()
            // mke2fs(8), -g: the smallest group has 256 blocks. The bitmap of the largest one fills
            // a block.
            && ext.group_blocks >= 256
            && ext.group_blocks.is_multiple_of(ext.cluster_blocks)
            && ext.group_blocks / ext.cluster_blocks <= 8 * block_size
            && (1..=8 * block_size).contains(&ext.group_inodes)
            && ext.inode_size.is_power_of_two()
            && (128..=block_size).contains(&ext.inode_size)
            && ext.descriptor_size.is_power_of_two()
            && (least_descriptor_size..=block_size).contains(&ext.descriptor_size);
        sound.then_some(ext)
    }

    /// Refuses features that a block copy does not handle.
    pub(super) fn check_features(&self) -> Result<(), Unfit> {
        let unknown = [
            ("compat", self.compat & !compat::KNOWN),
            ("incompat", self.incompat & !incompat::KNOWN),
            ("ro_compat", self.ro_compat & !ro_compat::KNOWN),
        ];
        if let Some((set, bits)) = unknown.into_iter().find(|(_, bits)| *bits != 0) {
            return Unfit::new(format!(
                "it has features that be does not copy by blocks ({set} {bits:#x})"
            ));
        }
        if self.incompat & incompat::JOURNAL_DEVICE != 0 {
            return Unfit::new("it is the journal of another file system");
        }
        if self.compat & compat::JOURNAL != 0 && self.field(0xe0) == 0 {
            return Unfit::new("its journal is on another device");
        }
        let has_csum = self.ro_compat & ro_compat::METADATA_CSUM != 0;
        if !has_csum
            && (self.ro_compat & ro_compat::GDT_CSUM != 0
                || self.incompat & incompat::EA_INODE != 0)
        {
            return Unfit::new(
                "its checksums depend on its UUID (`tune2fs -O metadata_csum` changes that)",
            );
        }
        Ok(())
    }

    /// Refuses a file system that was not cleanly unmounted.
    pub(super) fn check_clean(&self) -> Result<(), Unfit> {
        const CLEAN: u32 = 1;
        const ERRORS: u32 = 2;
        let state = self.field(0x38) >> 16;
        if self.incompat & incompat::RECOVER != 0
            || self.ro_compat & ro_compat::ORPHAN_PRESENT != 0
            || self.field(0xe8) != 0
            || state & CLEAN == 0
        {
            return Unfit::new("it was not cleanly unmounted");
        }
        if state & ERRORS != 0 {
            return Unfit::new("the kernel has found errors in it (run e2fsck on it)");
        }
        Ok(())
    }

    /// A number in the super block. The offset must be within it.
    pub(super) fn field(&self, offset: usize) -> u32 {
        Block(Cow::Borrowed(&self.super_block)).le32(offset).unwrap_or(0)
    }

    pub(in crate::block_copy) fn size(&self) -> u64 {
        self.blocks * self.block_size
    }

    pub(in crate::block_copy) fn block_size(&self) -> u64 {
        self.block_size
    }

    /// Returns a super block with another UUID and label. Checksums of metadata still start from
    /// the old UUID, so that no other block changes.
    pub(super) fn with_identity(&self, super_block: &[u8], identity: &Identity) -> Vec<u8> {
        let mut bytes = super_block.to_vec();
        if let Some(seed) = self.seed {
            let flags = self.incompat | incompat::CSUM_SEED;
            bytes[0x60..0x64].copy_from_slice(&flags.to_le_bytes());
            bytes[0x270..0x274].copy_from_slice(&seed.to_le_bytes());
        }
        bytes[0x68..0x78].copy_from_slice(identity.uuid.as_bytes());
        let label = identity.label.as_bytes();
        let length = label.len().min(16);
        bytes[0x78..0x88].fill(0);
        bytes[0x78..0x78 + length].copy_from_slice(&label[..length]);
        self.set_checksum(&mut bytes);
        bytes
    }

    pub(super) fn set_checksum(&self, super_block: &mut [u8]) {
        if self.seed.is_some() {
            let sum = crc32c(!0, &super_block[..0x3fc]);
            super_block[0x3fc..0x400].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

pub(super) fn read(source: &dyn Source, at: u64, len: usize) -> Result<Vec<u8>, Unfit> {
    let mut bytes = vec![0; len];
    match source.read_at(at, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Unfit::new(format!("it cannot be read at byte {at} ({error})")),
    }
}
