//! The journal of a file system that was cleanly unmounted (jbd2, `include/linux/jbd2.h`, with
//! big-endian numbers). Only its first block is copied, because the rest will not be read again.
//! The rest is zeroed: the target may hold blocks of an earlier copy of the same source there, with
//! the UUID and the sequence numbers that a recovery looks for.

use std::borrow::Cow;
use std::ops::Range;

use super::super_block::{Ext, read};
use crate::block_copy::blueprint::Unfit;
use crate::storage::probe::{Block, Source};

const EXTENTS: u32 = 0x8_0000;

impl Ext {
    /// The parts of the journal that are zeroed in the copy. There are none if the journal is not
    /// laid out as mke2fs does it.
    pub(super) fn empty_journal(&self, source: &dyn Source) -> Result<Vec<Range<u64>>, Unfit> {
        let Some(pieces) = self.journal_pieces(source)? else { return Ok(Vec::new()) };
        let Some(first) = pieces.first() else { return Ok(Vec::new()) };
        let super_block = read(source, self.offset(first.start, 1, "the journal")?, 1024)?;
        let header = Block(Cow::Borrowed(&super_block));
        let is_journal =
            header.has(0, &[0xc0, 0x3b, 0x39, 0x98]) && matches!(header.be32(4), Some(3 | 4));
        let blocks: u64 = pieces.iter().map(|piece| piece.end - piece.start).sum();
        let same_size = header.be32(0xc) == Some(self.block_size as u32)
            && header.be32(0x10).map(u64::from) == Some(blocks);
        if !is_journal || !same_size {
            return Ok(Vec::new());
        }
        if header.be32(0x1c) != Some(0) {
            return Unfit::new("its journal is not empty (run e2fsck on it)");
        }
        let kept = |(index, piece): (usize, Range<u64>)| {
            let start = piece.start + u64::from(index == 0);
            start * self.block_size..piece.end * self.block_size
        };
        Ok(pieces.into_iter().enumerate().map(kept).collect())
    }

    /// The blocks of the journal, if all its extents are in the inode itself.
    fn journal_pieces(&self, source: &dyn Source) -> Result<Option<Vec<Range<u64>>>, Unfit> {
        let index = u64::from(self.field(0xe0)) - 1;
        if index >= self.group_inodes {
            return Ok(None);
        }
        let descriptors = read(source, self.first_descriptor()?, self.descriptor_size as usize)?;
        let descriptor = Block(Cow::Borrowed(&descriptors));
        let part = |offset| descriptor.le32(offset).map_or(0, u64::from);
        let high = if self.descriptor_size >= 64 { part(0x28) << 32 } else { 0 };
        let table = self.offset(high | part(0x8), 1, "an inode table")?;
        let inode = read(source, table + index * self.inode_size, 128)?;
        let inode = Block(Cow::Borrowed(&inode));
        let header = (inode.le32(0x20), inode.le16(0x28), inode.le16(0x2a), inode.le16(0x2e));
        let count = match header {
            (Some(flags), Some(0xf30a), Some(count @ 1..=4), Some(0)) if flags & EXTENTS != 0 => {
                count
            }
            _ => return Ok(None),
        };
        let mut pieces = Vec::new();
        let mut next = 0;
        for extent in (0..usize::from(count)).map(|n| 0x34 + 12 * n) {
            let fields = (
                inode.le32(extent),
                inode.le16(extent + 4),
                inode.le16(extent + 6),
                inode.le32(extent + 8),
            );
            let (Some(logical), Some(length @ 1..=0x8000), Some(high), Some(low)) = fields else {
                return Ok(None);
            };
            if logical != next {
                return Ok(None);
            }
            next += u32::from(length);
            let start = u64::from(high) << 32 | u64::from(low);
            self.offset(start, length.into(), "the journal")?;
            pieces.push(start..start + u64::from(length));
        }
        Ok(Some(pieces))
    }
}
