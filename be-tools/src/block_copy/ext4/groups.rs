//! Which blocks of the block groups are used.

use std::borrow::Cow;
use std::ops::Range;

use super::super_block::{Ext, compat, incompat, read, ro_compat};
use crate::block_copy::blueprint::Unfit;
use crate::block_copy::crc32c::crc32c;
use crate::block_copy::extents::Extents;
use crate::storage::probe::{Block, Source};

/// The most block groups, each of which takes some bytes of memory. With groups of the usual size
/// that is 32 TiB.
const MAX_GROUPS: u64 = 1 << 18;

const INODE_UNINIT: u16 = 0x1;
const BLOCK_UNINIT: u16 = 0x2;

/// The used blocks, as ranges of bytes of the device.
pub struct UsedBlocks {
    /// The ranges that are copied.
    pub used: Extents,
    /// The parts of the inode tables that were never used.
    pub zeros: Vec<Range<u64>>,
}

/// The descriptor of a group. Numbers are in blocks.
struct Group {
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    unused_inodes: u64,
    flags: u16,
}

impl Ext {
    pub(super) fn groups(&self) -> u64 {
        (self.blocks - self.first_block).div_ceil(self.group_blocks)
    }

    /// As `ext4_bg_has_super()` in fs/ext4/balloc.c.
    pub(super) fn has_super_block(&self, group: u64) -> bool {
        let power_of = |base: u64| std::iter::successors(Some(base), move |p| p.checked_mul(base));
        let is_power = |base| power_of(base).take_while(|p| *p <= group).any(|p| p == group);
        match group {
            0 => true,
            _ if self.compat & compat::SPARSE_SUPER_2 != 0 => {
                [0x24c, 0x250].iter().any(|offset| u64::from(self.field(*offset)) == group)
            }
            1 => true,
            _ if self.ro_compat & ro_compat::SPARSE_SUPER == 0 => true,
            _ => [3, 5, 7].into_iter().any(is_power),
        }
    }

    fn group_start(&self, group: u64) -> u64 {
        self.first_block + group * self.group_blocks
    }

    fn descriptors_in_block(&self) -> u64 {
        self.block_size / self.descriptor_size
    }

    /// How many blocks of descriptors follow each super block. The others are in the groups that
    /// they describe.
    fn gathered_descriptor_blocks(&self) -> u64 {
        let all = self.groups().div_ceil(self.descriptors_in_block());
        if self.incompat & incompat::META_BG != 0 { all.min(self.field(0x104).into()) } else { all }
    }

    /// Offset of the first descriptor in bytes.
    pub(super) fn first_descriptor(&self) -> Result<u64, Unfit> {
        self.offset(self.descriptor_block(0), 1, "group descriptors")
    }

    fn descriptor_block(&self, index: u64) -> u64 {
        // The primary super block is at byte 1024, whatever the first block of the first group.
        let primary = 1024 / self.block_size;
        if index < self.gathered_descriptor_blocks() {
            return primary + 1 + index;
        }
        let group = index * self.descriptors_in_block();
        if group == 0 {
            return primary + 1;
        }
        self.group_start(group) + u64::from(self.has_super_block(group))
    }

    /// How many blocks at the start of a group hold the super block, the descriptors, and the space
    /// for descriptors of future groups.
    fn reserved_blocks(&self, group: u64) -> u64 {
        let with_super = self.has_super_block(group);
        let per_block = self.descriptors_in_block();
        let gathered = self.gathered_descriptor_blocks();
        // The first group has one more block if its first block is not that of the super block.
        let shift =
            if group == 0 { (1024 / self.block_size).saturating_sub(self.first_block) } else { 0 };
        let scattered = self.incompat & incompat::META_BG != 0 && group / per_block >= gathered;
        let descriptors = match group % per_block {
            0 | 1 if scattered => 1,
            last if scattered && last == per_block - 1 => 1,
            _ if scattered || !with_super => 0,
            _ => gathered + u64::from(self.field(0xcc) >> 16),
        };
        shift + u64::from(with_super) + descriptors
    }

    /// Reads the descriptors and bitmaps.
    pub(super) fn used(&self, source: &dyn Source) -> Result<UsedBlocks, Unfit> {
        let (mut data, mut tables, mut zeros) =
            (Extents::default(), Extents::default(), Vec::new());
        let blocks = |from: u64, to: u64| from * self.block_size..to * self.block_size;
        let table_blocks = (self.group_inodes * self.inode_size).div_ceil(self.block_size);
        if self.groups() > MAX_GROUPS {
            return Unfit::new("it has too many block groups");
        }
        let mut descriptors = Vec::new();
        for number in 0..self.groups() {
            let in_block = number % self.descriptors_in_block();
            if in_block == 0 {
                let block = self.descriptor_block(number / self.descriptors_in_block());
                let at = self.offset(block, 1, "group descriptors")?;
                descriptors = read(source, at, self.block_size as usize)?;
            }
            let offset = (in_block * self.descriptor_size) as usize;
            let descriptor = &descriptors[offset..offset + self.descriptor_size as usize];
            let group = self.group(number, descriptor)?;

            for bitmap in [group.block_bitmap, group.inode_bitmap] {
                self.offset(bitmap, 1, "a bitmap")?;
                tables.add(blocks(bitmap, bitmap + 1));
            }
            self.offset(group.inode_table, table_blocks, "an inode table")?;
            let used_inodes = self.group_inodes - group.unused_inodes;
            let used_table = (used_inodes * self.inode_size).div_ceil(self.block_size);
            let (used_end, end) =
                (group.inode_table + used_table, group.inode_table + table_blocks);
            tables.add(blocks(group.inode_table, used_end));
            zeros.push(blocks(used_end, end));

            let start = self.group_start(number);
            let group_end = (start + self.group_blocks).min(self.blocks);
            let reserved = (start + self.reserved_blocks(number)).min(group_end);
            data.add(blocks(start, reserved));
            if group.flags & BLOCK_UNINIT == 0 {
                let at = self.offset(group.block_bitmap, 1, "a bitmap")?;
                let bitmap = read(source, at, self.block_size as usize)?;
                let clusters = (group_end - start).div_ceil(self.cluster_blocks);
                for run in runs(&bitmap, clusters as usize) {
                    let block =
                        |bit: usize| (start + bit as u64 * self.cluster_blocks).min(group_end);
                    data.add(blocks(block(run.start), block(run.end)));
                }
            }
        }
        tables.append(data);
        Ok(UsedBlocks { used: tables, zeros })
    }

    fn group(&self, number: u64, descriptor: &[u8]) -> Result<Group, Unfit> {
        let has_sums = self.seed.is_some();
        if let Some(seed) = self.seed {
            let mut bytes = descriptor.to_vec();
            bytes[0x1e..0x20].fill(0);
            let sum = crc32c(crc32c(seed, &(number as u32).to_le_bytes()), &bytes);
            if descriptor[0x1e..0x20] != sum.to_le_bytes()[..2] {
                return Unfit::new(format!(
                    "the descriptor of its group {number} is damaged (run e2fsck on it)"
                ));
            }
        }
        let bytes = Block(Cow::Borrowed(descriptor));
        let low = |offset| bytes.le32(offset).map_or(0, u64::from);
        let wide = descriptor.len() >= 64;
        let high = |offset| if wide { low(offset) << 32 } else { 0 };
        let half = |offset| bytes.le16(offset).unwrap_or(0);
        // Without checksums the flags are not valid.
        let flags = if has_sums { half(0x12) } else { 0 };
        let unused = u64::from(half(0x1c)) | if wide { u64::from(half(0x32)) << 16 } else { 0 };
        let unused_inodes = match flags & INODE_UNINIT != 0 {
            true => self.group_inodes,
            false if has_sums => unused.min(self.group_inodes),
            false => 0,
        };
        Ok(Group {
            block_bitmap: low(0x0) | high(0x20),
            inode_bitmap: low(0x4) | high(0x24),
            inode_table: low(0x8) | high(0x28),
            unused_inodes,
            flags,
        })
    }

    /// Offset in bytes of `count` blocks, which must be within the file system.
    pub(super) fn offset(&self, block: u64, count: u64, what: &str) -> Result<u64, Unfit> {
        match block.checked_add(count) {
            Some(end) if end <= self.blocks && block > 0 => Ok(block * self.block_size),
            _ => Unfit::new(format!("{what} is said to be beyond its end (run e2fsck on it)")),
        }
    }
}

/// The runs of set bits among the first `bits` bits of a bitmap.
fn runs(bitmap: &[u8], bits: usize) -> impl Iterator<Item = Range<usize>> + '_ {
    let bits = bits.min(bitmap.len() * 8);
    let is_set = |bit: usize| bitmap[bit / 8] >> (bit % 8) & 1 == 1;
    // Bytes of which all bits are equal are skipped at once.
    let next = move |mut bit: usize, wanted: bool| {
        while bit < bits {
            if bit.is_multiple_of(8) && bitmap[bit / 8] == if wanted { 0 } else { 0xff } {
                bit += 8;
            } else if is_set(bit) == wanted {
                return bit;
            } else {
                bit += 1;
            }
        }
        bits
    };
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = next(at, true);
        at = next(start, false);
        (start < bits).then_some(start..at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_set_bits_are_found_up_to_the_end() {
        let bitmap = [0b0000_0110, 0, 0xff, 0b1000_0001, 0xff];
        let found = |bits| runs(&bitmap, bits).collect::<Vec<_>>();
        assert_eq!(found(40), [1..3, 16..25, 31..40]);
        assert_eq!(found(2), std::iter::once(1..2).collect::<Vec<_>>());
        assert_eq!(found(35), [1..3, 16..25, 31..35]);
        assert!(runs(&[], 8).next().is_none());
    }
}
