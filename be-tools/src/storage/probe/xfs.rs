//! The super block of xfs, and whether its log is clean: "XFS Algorithms & Data Structures",
//! chapters "Superblocks" and "Journaling Log". All numbers are big-endian.

use super::bytes::{Block, Image};
use super::content::{Kind, SuperBlock};

/// The unit of the log in bytes.
pub(crate) const BASIC_BLOCK: u64 = 512;

pub(super) fn xfs(image: &Image) -> Option<SuperBlock> {
    let sb = image.at(0, 512)?;
    if !sb.has(0, b"XFSB") {
        return None;
    }
    let block = u64::from(sb.be32(4)?);
    if !block.is_power_of_two() || !(512..=65536).contains(&block) {
        return None;
    }
    let (blocks, free) = (sb.be64(8)?, sb.be64(144)?);
    Some(SuperBlock {
        uuid: sb.uuid(32)?,
        label: sb.text(108, 12)?,
        size: blocks.checked_mul(block),
        used: blocks.checked_sub(free).and_then(|used| used.checked_mul(block)),
        // A log that does not parse counts as dirty.
        dirty: log(image, block).is_some_and(|log| !log.ends_in_unmount().unwrap_or(false)),
        ..SuperBlock::new(Kind::Xfs)
    })
}

/// The internal log; `None` if the log is on another device.
pub(crate) fn log<'a>(image: &'a Image<'a>, block: u64) -> Option<Log<'a>> {
    let sb = image.at(0, 512)?;
    let start = sb.be64(48).filter(|start| *start != 0)?;
    let (group_blocks, group_bits) = (u64::from(sb.be32(84)?), u32::from(sb.u8(124)?));
    let group = start.checked_shr(group_bits)?;
    let in_group = start & 1_u64.checked_shl(group_bits)?.checked_sub(1)?;
    let first = group.checked_mul(group_blocks)?.checked_add(in_group)?;
    let len = u64::from(sb.be32(96)?) * block / BASIC_BLOCK;
    Some(Log { image, offset: first.checked_mul(block)?, len })
}

/// The log, a ring of 512-byte blocks. Each begins with the number of the turn in which it was
/// written. A record header begins with a magic number, followed by the turn.
pub(crate) struct Log<'a> {
    image: &'a Image<'a>,
    /// Its offset on the device in bytes.
    pub(crate) offset: u64,
    /// Its length in blocks of 512 bytes.
    pub(crate) len: u64,
}

impl Log<'_> {
    pub(crate) const RECORD: u32 = 0xfeed_babe;

    fn block(&self, index: u64) -> Option<Block<'_>> {
        self.image
            .at(self.offset.checked_add(index.checked_mul(BASIC_BLOCK)?)?, BASIC_BLOCK as usize)
    }

    /// The turn in which a block was written.
    pub(crate) fn turn(&self, index: u64) -> Option<u32> {
        let block = self.block(index)?;
        match block.be32(0)? {
            Self::RECORD => block.be32(4),
            turn => Some(turn),
        }
    }

    /// The block that would be written next: the first one that was written in an older turn than
    /// block 0.
    fn head(&self) -> Option<u64> {
        let newest = self.turn(0)?;
        let (mut new, mut old) = (0, self.len);
        while new + 1 < old {
            let middle = new + (old - new) / 2;
            if self.turn(middle)? == newest { new = middle } else { old = middle }
        }
        Some(old)
    }

    /// Whether the last record before the head says that the file system was unmounted.
    pub(crate) fn ends_in_unmount(&self) -> Option<bool> {
        // The longest record is 256 KiB, and its header a few blocks.
        const MAX_RECORD: u64 = (256 << 10) / BASIC_BLOCK + 16;
        const HEADER_COVERS: u64 = 32 << 10;
        const UNMOUNT: u8 = 0x20;
        let head = self.head()?;
        let mut record = None;
        for back in 1..=MAX_RECORD.min(self.len) {
            let index = (head + self.len - back) % self.len;
            let block = self.block(index)?;
            if block.be32(0)? == Self::RECORD {
                record = Some((index, block));
                break;
            }
        }
        let (index, header) = record?;
        let version_2 = header.be32(8)? & 2 != 0;
        let headers = match u64::from(header.be32(320)?) {
            size if version_2 && size > HEADER_COVERS => size.div_ceil(HEADER_COVERS),
            _ => 1,
        };
        let content = u64::from(header.be32(12)?).div_ceil(BASIC_BLOCK);
        let end = index.checked_add(headers)?.checked_add(content)?;
        let operation = self.block((index + headers) % self.len)?;
        Some(
            end % self.len == head % self.len
                && header.be32(40)? == 1
                && operation.u8(9)? & UNMOUNT != 0,
        )
    }
}
