//! A clean log for a copy of an xfs, because the kernel refuses a log that has the UUID of the
//! source ("Journaling Log" in "XFS Algorithms & Data Structures",
//! `fs/xfs/libxfs/xfs_log_format.h`). It begins with an unmount record, one cycle after the newest
//! of the source, so that future changes are newer than any that the metadata has seen. Records of
//! the cycle before fill the rest: where the cycle number changes, the kernel continues the log.

use std::ops::Range;

use uuid::Uuid;

use crate::storage::probe::xfs::{BASIC_BLOCK, Log};

/// A clean log, as long as the one that it replaces.
#[derive(Debug)]
pub struct CleanLog {
    range: Range<u64>,
    cycle: u32,
    /// Length of the first record in blocks.
    first: u64,
    /// Length of the log in blocks.
    blocks: u64,
    uuid: Uuid,
}

/// The position of a record in the log, its cycle, and the tail of the log when it was written.
struct Record {
    at: u64,
    blocks: u64,
    cycle: u32,
    tail_cycle: u32,
    tail_block: u64,
}

/// The most blocks of a record, 256 KiB.
const LONGEST: u64 = (256 << 10) / BASIC_BLOCK;

/// How many blocks of a record one header describes.
const COVERED: u64 = (32 << 10) / BASIC_BLOCK;

impl CleanLog {
    /// Makes a log for a range of the device. `cycle` is the newest cycle of the old log, and
    /// `unit` its stripe unit in bytes, or 0. Returns `None` if no valid log can be that short.
    pub fn new(range: Range<u64>, cycle: u32, unit: u64, uuid: Uuid) -> Option<Self> {
        let blocks = (range.end - range.start) / BASIC_BLOCK;
        let first = (unit / BASIC_BLOCK).max(2);
        // Records have an even number of blocks.
        let sound =
            blocks > first && (blocks | first).is_multiple_of(2) && first <= LONGEST && cycle > 0;
        sound.then_some(CleanLog { range, cycle: cycle + 1, first, blocks, uuid })
    }

    /// The range of the device in bytes.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    fn record(&self, block: u64) -> Record {
        let before = self.cycle - 1;
        if block < self.first {
            return Record {
                at: 0,
                blocks: self.first,
                cycle: self.cycle,
                tail_cycle: before,
                tail_block: self.blocks - self.first,
            };
        }
        let at = self.first + (block - self.first) / LONGEST * LONGEST;
        let blocks = LONGEST.min(self.blocks - at);
        Record { at, blocks, cycle: before, tail_cycle: before, tail_block: at }
    }

    fn block(&self, index: u64) -> [u8; BASIC_BLOCK as usize] {
        let record = self.record(index);
        let headers = if record.blocks > COVERED { record.blocks.div_ceil(COVERED) } else { 1 };
        let mut bytes = [0; BASIC_BLOCK as usize];
        let mut put =
            |offset: usize, what: &[u8]| bytes[offset..offset + what.len()].copy_from_slice(what);
        let cycle = record.cycle.to_be_bytes();
        // The transaction id of the only operation in the log.
        const TRANSACTION: [u8; 4] = [0xb0, 0xc0, 0xd0, 0xd0];
        match index - record.at {
            0 => {
                let len = (record.blocks - headers) * BASIC_BLOCK;
                let size = (record.blocks * BASIC_BLOCK).max(COVERED * BASIC_BLOCK);
                put(0, &Log::RECORD.to_be_bytes());
                put(4, &cycle);
                // Version 2.
                put(8, &2_u32.to_be_bytes());
                put(12, &(len as u32).to_be_bytes());
                put(16, &cycle);
                put(20, &(record.at as u32).to_be_bytes());
                put(24, &record.tail_cycle.to_be_bytes());
                put(28, &(record.tail_block as u32).to_be_bytes());
                // No previous record; one operation.
                put(36, &[0xff; 4]);
                put(40, &1_u32.to_be_bytes());
                // The first word of the operation's block, in which the cycle replaces it.
                put(44, &TRANSACTION);
                // Format: Linux, little-endian.
                put(300, &1_u32.to_be_bytes());
                put(304, self.uuid.as_bytes());
                put(320, &(size as u32).to_be_bytes());
            }
            operation if operation == headers => {
                // Length, client (the log itself), flag of an unmount, and its magic number.
                put(0, &cycle);
                put(4, &8_u32.to_be_bytes());
                put(8, &[0xaa, 0x20]);
                put(12, &0x556e_u16.to_le_bytes());
            }
            _ => put(0, &cycle),
        }
        bytes
    }

    /// Writes the part of the log that overlaps `bytes`, which are those of the device from offset
    /// `at` on.
    pub fn fill(&self, at: u64, bytes: &mut [u8]) {
        let end = at + bytes.len() as u64;
        let (from, to) = (self.range.start.max(at), self.range.end.min(end));
        let mut offset = from;
        while offset < to {
            let (index, skip) = (
                (offset - self.range.start) / BASIC_BLOCK,
                (offset - self.range.start) % BASIC_BLOCK,
            );
            let len = (BASIC_BLOCK - skip).min(to - offset);
            let block = self.block(index);
            let target = &mut bytes[(offset - at) as usize..(offset - at + len) as usize];
            target.copy_from_slice(&block[skip as usize..(skip + len) as usize]);
            offset += len;
        }
    }
}
