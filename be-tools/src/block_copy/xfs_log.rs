//! A clean log for a copy: the kernel refuses one that has the UUID of the source. It begins with a
//! record that says "unmounted", one turn after the source's, so that every change to come is
//! younger than what the metadata has seen; the rest are records of the turn before, which is how
//! the kernel tells where to go on ("Journaling Log" in "XFS Algorithms & Data Structures";
//! `fs/xfs/libxfs/xfs_log_format.h`).

use std::ops::Range;

use uuid::Uuid;

use crate::storage::probe::xfs::{BASIC_BLOCK, Log};

/// A log, as long as the one it takes the place of.
#[derive(Debug)]
pub struct FreshLog {
    range: Range<u64>,
    turn: u32,
    /// Blocks of the first record.
    first: u64,
    /// Blocks in all.
    blocks: u64,
    uuid: Uuid,
}

/// One record: where it begins, its blocks, its turn, and where the oldest one that counts was.
struct Record {
    at: u64,
    blocks: u64,
    turn: u32,
    tail: (u32, u64),
}

/// Blocks of the longest record, 256 KiB.
const LONGEST: u64 = (256 << 10) / BASIC_BLOCK;

/// How much of a record one header covers.
const COVERED: u64 = (32 << 10) / BASIC_BLOCK;

impl FreshLog {
    /// `turn` is the newest of the old log, `unit` the bytes in which records are written, 0 if
    /// any. `None` where no log can be that short.
    pub fn new(range: Range<u64>, turn: u32, unit: u64, uuid: Uuid) -> Option<Self> {
        let blocks = (range.end - range.start) / BASIC_BLOCK;
        let first = (unit / BASIC_BLOCK).max(2);
        // Records are of an even number of blocks.
        let sound =
            blocks > first && (blocks | first).is_multiple_of(2) && first <= LONGEST && turn > 0;
        sound.then_some(FreshLog { range, turn: turn + 1, first, blocks, uuid })
    }

    /// Bytes of the device.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }

    fn record(&self, block: u64) -> Record {
        if block < self.first {
            let tail = (self.turn - 1, self.blocks - self.first);
            return Record { at: 0, blocks: self.first, turn: self.turn, tail };
        }
        let at = self.first + (block - self.first) / LONGEST * LONGEST;
        let turn = self.turn - 1;
        Record { at, blocks: LONGEST.min(self.blocks - at), turn, tail: (turn, at) }
    }

    fn block(&self, index: u64) -> [u8; BASIC_BLOCK as usize] {
        let record = self.record(index);
        let headers = if record.blocks > COVERED { record.blocks.div_ceil(COVERED) } else { 1 };
        let mut bytes = [0; BASIC_BLOCK as usize];
        let mut put =
            |offset: usize, what: &[u8]| bytes[offset..offset + what.len()].copy_from_slice(what);
        let turn = record.turn.to_be_bytes();
        // The one operation: its number, its length, the log as its client, and the flag of an
        // unmount.
        const NUMBER: [u8; 4] = [0xb0, 0xc0, 0xd0, 0xd0];
        match index - record.at {
            0 => {
                let len = (record.blocks - headers) * BASIC_BLOCK;
                let size = (record.blocks * BASIC_BLOCK).max(COVERED * BASIC_BLOCK);
                put(0, &Log::RECORD.to_be_bytes());
                put(4, &turn);
                // Version 2.
                put(8, &2_u32.to_be_bytes());
                put(12, &(len as u32).to_be_bytes());
                put(16, &turn);
                put(20, &(record.at as u32).to_be_bytes());
                put(24, &record.tail.0.to_be_bytes());
                put(28, &(record.tail.1 as u32).to_be_bytes());
                // No previous record; one operation.
                put(36, &[0xff; 4]);
                put(40, &1_u32.to_be_bytes());
                // The first word of the operation's block, where the turn stands instead.
                put(44, &NUMBER);
                // Format: Linux, little-endian.
                put(300, &1_u32.to_be_bytes());
                put(304, self.uuid.as_bytes());
                put(320, &(size as u32).to_be_bytes());
            }
            operation if operation == headers => {
                put(0, &turn);
                put(4, &8_u32.to_be_bytes());
                put(8, &[0xaa, 0x20]);
                put(12, &0x556e_u16.to_le_bytes());
            }
            _ => put(0, &turn),
        }
        bytes
    }

    /// Puts the part of the log that lies in `bytes`, from `at` on, into them.
    pub fn fill(&self, at: u64, bytes: &mut [u8]) {
        let end = at + bytes.len() as u64;
        let (from, to) = (self.range.start.max(at), self.range.end.min(end));
        let mut place = from;
        while place < to {
            let (index, skip) = (
                (place - self.range.start) / BASIC_BLOCK,
                (place - self.range.start) % BASIC_BLOCK,
            );
            let len = (BASIC_BLOCK - skip).min(to - place);
            let block = self.block(index);
            let target = &mut bytes[(place - at) as usize..(place - at + len) as usize];
            target.copy_from_slice(&block[skip as usize..(skip + len) as usize]);
            place += len;
        }
    }
}
