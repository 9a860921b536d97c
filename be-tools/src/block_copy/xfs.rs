//! Which blocks of an xfs with checksums a copy consists of ("XFS Algorithms & Data Structures",
//! `fs/xfs/libxfs/xfs_format.h`): all blocks that are not in the free space B+trees. All numbers
//! except checksums are big-endian.

use std::borrow::Cow;
use std::ops::Range;

use super::blueprint::{Blueprint, Identity, Unfit, add_backup};
use super::crc32c::crc32c;
use super::extents::Extents;
use super::overlay::Edit;
use super::xfs_log::CleanLog;
use crate::storage::probe::xfs::{BASIC_BLOCK, log};
use crate::storage::probe::{Block, Image, Source};

/// The first version with checksums.
const VERSION: u16 = 5;

mod ro_compat {
    /// finobt, rmapbt, reflink, inobtcnt.
    pub const KNOWN: u32 = 0xf;
}

mod incompat {
    pub const META_UUID: u32 = 0x4;
    /// The file system must be repaired before it is mounted.
    pub const NEEDS_REPAIR: u32 = 0x10;
    /// ftype, sparse inodes, meta_uuid, bigtime, needsrepair, nrext64, exchange-range, parent
    /// pointers.
    pub const KNOWN: u32 = 0xff;
}

/// Logged attributes. They do not matter, because the copy gets a new log.
const LOG_INCOMPAT_KNOWN: u32 = 0x1;

/// A super block that passed all checks.
#[derive(Debug)]
pub struct Xfs {
    /// The sector that holds it.
    super_block: Vec<u8>,
    block_size: u64,
    blocks: u64,
    group_blocks: u64,
    groups: u64,
    log_unit: u64,
}

impl Xfs {
    pub(super) fn inspect(source: &dyn Source) -> Result<Self, Unfit> {
        let start = read(source, 0, 512)?;
        let sb = Block(Cow::Borrowed(&start));
        let sector = sb.be16(102).map_or(0, usize::from);
        let version = sb.be16(100).unwrap_or(0) & 0xf;
        if version != VERSION {
            return Unfit::new(format!("it is xfs of version {version}, without checksums"));
        }
        if !sector.is_power_of_two() || !(512..=32768).contains(&sector) {
            return Unfit::new("its super block is not valid");
        }
        let super_block = read(source, 0, sector)?;
        if !has_valid_checksum(&super_block, 224) {
            return Unfit::new("the checksum of its super block is wrong");
        }
        let sb = Block(Cow::Borrowed(&super_block));
        check_features(&sb)?;
        let xfs = Self::parse(&sb).ok_or_else(|| Unfit("its super block is not valid".into()))?;
        if xfs.size() > source.len() {
            return Unfit::new("it is larger than its device");
        }
        Ok(xfs)
    }

    fn parse(sb: &Block<'_>) -> Option<Self> {
        let xfs = Xfs {
            super_block: sb.0.to_vec(),
            block_size: u64::from(sb.be32(4)?),
            blocks: sb.be64(8)?,
            group_blocks: u64::from(sb.be32(84)?),
            groups: u64::from(sb.be32(88)?),
            // 0 and 1 both mean that the log has no stripe unit.
            log_unit: u64::from(sb.be32(196)?).max(1) / BASIC_BLOCK * BASIC_BLOCK,
        };
        let most = xfs.groups.checked_mul(xfs.group_blocks)?;
        let sound = xfs.block_size.is_power_of_two()
            && (1024..=65536).contains(&xfs.block_size)
            && u64::from(sb.be16(102)?) <= xfs.block_size
            && xfs.blocks.checked_mul(xfs.block_size).is_some()
            // mkfs.xfs(8) makes groups of at least 16 MiB. This only excludes nonsense.
            && xfs.group_blocks >= 64
            && xfs.groups > 0
            && xfs.blocks <= most
            && xfs.blocks > most - xfs.group_blocks
            && xfs.log_unit <= 256 << 10;
        sound.then_some(xfs)
    }

    pub(super) fn size(&self) -> u64 {
        self.blocks * self.block_size
    }

    pub(super) fn sector(&self) -> u64 {
        let log_sector = Block(Cow::Borrowed(&self.super_block)).be16(194).map_or(0, u64::from);
        let sector = self.super_block.len() as u64;
        if log_sector == 0 { sector } else { sector.min(log_sector) }
    }

    pub(super) fn blueprint(
        &self,
        source: &dyn Source,
        identity: &Identity,
    ) -> Result<Blueprint, Unfit> {
        let log = self.clean_log(source, identity)?;
        let mut used = Extents::default();
        let mut super_blocks = Vec::new();
        for group in 0..self.groups {
            self.group(source, group, &mut used)?;
            let at = group * self.group_blocks * self.block_size;
            let found = read(source, at, self.super_block.len())?;
            let sound = found.starts_with(b"XFSB") && has_valid_checksum(&found, 224);
            let bytes =
                self.with_identity(if sound { &found } else { &self.super_block }, identity);
            add_backup(&mut super_blocks, Edit { at, bytes })?;
        }
        if super_blocks.is_empty() {
            return Unfit::new("its super block is not valid");
        }
        let primary = super_blocks.remove(0);
        let size = self.size();
        let (used, log) = (used.sorted(size), Some(log));
        Ok(Blueprint { size, used, zeros: Vec::new(), log, backups: super_blocks, primary })
    }

    /// Returns a super block with another UUID and label. The old UUID becomes the metadata UUID,
    /// which every metadata block repeats.
    fn with_identity(&self, super_block: &[u8], identity: &Identity) -> Vec<u8> {
        let mut bytes = super_block.to_vec();
        let old: [u8; 16] = std::array::from_fn(|n| self.super_block[32 + n]);
        let sb = Block(Cow::Borrowed(&self.super_block));
        let flags = sb.be32(216).unwrap_or(0);
        let meta = if flags & incompat::META_UUID != 0 {
            self.super_block[248..264].to_vec()
        } else {
            old.into()
        };
        bytes[216..220].copy_from_slice(&(flags | incompat::META_UUID).to_be_bytes());
        bytes[248..264].copy_from_slice(&meta);
        bytes[32..48].copy_from_slice(identity.uuid.as_bytes());
        let label = identity.label.as_bytes();
        let length = label.len().min(12);
        bytes[108..120].fill(0);
        bytes[108..108 + length].copy_from_slice(&label[..length]);
        bytes[224..228].fill(0);
        let sum = !crc32c(!0, &bytes);
        bytes[224..228].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn clean_log(&self, source: &dyn Source, identity: &Identity) -> Result<CleanLog, Unfit> {
        let nonsense = || Unfit("its log is not valid".into());
        let image =
            Image::new(source).map_err(|error| Unfit(format!("it cannot be read ({error})")))?;
        let log = log(&image, self.block_size).ok_or_else(nonsense)?;
        if !log.ends_in_unmount().unwrap_or(false) {
            return Unfit::new("it was not cleanly unmounted");
        }
        let cycle =
            log.turn(0).filter(|cycle| (1..u32::MAX - 1).contains(cycle)).ok_or_else(nonsense)?;
        let len = log.len.checked_mul(BASIC_BLOCK).ok_or_else(nonsense)?;
        let range = log.offset..log.offset.checked_add(len).ok_or_else(nonsense)?;
        if range.end > self.size() || range.start < self.block_size {
            return Err(nonsense());
        }
        CleanLog::new(range, cycle, self.log_unit, identity.uuid).ok_or_else(nonsense)
    }

    /// Adds the blocks that an allocation group uses, which are all but its free space.
    fn group(&self, source: &dyn Source, number: u64, used: &mut Extents) -> Result<(), Unfit> {
        let damaged = || Unfit(format!("its group {number} is damaged (run xfs_repair on it)"));
        let start = number * self.group_blocks;
        let blocks = self.group_blocks.min(self.blocks - start);
        let sector = self.super_block.len();
        let header = read(source, start * self.block_size + sector as u64, sector)?;
        if !has_valid_checksum(&header, 216) {
            return Err(damaged());
        }
        let header = Block(Cow::Borrowed(&header));
        let number_of = |offset| header.be32(offset).map(u64::from);
        if !header.has(0, b"XAGF") || number_of(8) != Some(number) || number_of(12) != Some(blocks)
        {
            return Err(damaged());
        }
        let (root, levels) = number_of(16).zip(number_of(28)).ok_or_else(damaged)?;
        let tree = FreeSpaceTree { source, xfs: self, start, blocks };
        let free = tree.free(root, levels).ok_or_else(damaged)?;
        let mut at = 0;
        for range in free.iter().chain([&(blocks..blocks)]) {
            let bytes = |block: u64| (start + block) * self.block_size;
            used.add(bytes(at)..bytes(range.start));
            at = range.end;
        }
        Ok(())
    }
}

/// The B+tree of an allocation group's free space, sorted by block.
struct FreeSpaceTree<'a> {
    source: &'a dyn Source,
    xfs: &'a Xfs,
    /// First block of the group.
    start: u64,
    /// Number of blocks of the group.
    blocks: u64,
}

impl FreeSpaceTree<'_> {
    const HEADER: usize = 56;
    /// NULLAGBLOCK: there is no next block.
    const NO_BLOCK: u32 = u32::MAX;

    fn block(&self, number: u64, level: u64) -> Option<Block<'static>> {
        let size = self.xfs.block_size;
        let inside = number > 0 && number < self.blocks;
        let bytes =
            read(self.source, inside.then_some((self.start + number) * size)?, size as usize)
                .ok()?;
        let is_sound = has_valid_checksum(&bytes, 52);
        let block = Block(Cow::Owned(bytes));
        let is_ours = block.has(0, b"AB3B") && block.be16(4).map(u64::from) == Some(level);
        (is_sound && is_ours).then_some(block)
    }

    /// The free ranges, in blocks of the group. Returns `None` if the tree is damaged.
    fn free(&self, root: u64, levels: u64) -> Option<Vec<Range<u64>>> {
        let fitting = (self.xfs.block_size as usize - Self::HEADER) / 12;
        let mut level = levels.checked_sub(1).filter(|level| *level < 9)?;
        let mut block = self.block(root, level)?;
        while level > 0 {
            // The first pointer, which follows the space for all keys.
            let first = block.be32(Self::HEADER + fitting * 8)?;
            level -= 1;
            block = self.block(first.into(), level)?;
        }
        let mut free: Vec<Range<u64>> = Vec::new();
        loop {
            let records = usize::from(block.be16(6)?);
            for record in (0..records).map(|n| Self::HEADER + 8 * n) {
                let (start, len) =
                    (u64::from(block.be32(record)?), u64::from(block.be32(record + 4)?));
                let after = free.last().map_or(0, |last| last.end);
                // Ranges must be in ascending order. That also limits their number, so that a
                // damaged tree cannot make this loop endless.
                if start < after || len == 0 || start + len > self.blocks {
                    return None;
                }
                free.push(start..start + len);
            }
            match block.be32(12)? {
                Self::NO_BLOCK => return Some(free),
                _ if records == 0 => return None,
                next => block = self.block(next.into(), 0)?,
            }
        }
    }
}

/// Refuses features that a block copy does not handle.
fn check_features(sb: &Block<'_>) -> Result<(), Unfit> {
    let field = |offset| sb.be32(offset).unwrap_or(u32::MAX);
    let unknown = [
        ("compat", field(208)),
        ("ro_compat", field(212) & !ro_compat::KNOWN),
        ("incompat", field(216) & !incompat::KNOWN),
        ("log_incompat", field(220) & !LOG_INCOMPAT_KNOWN),
    ];
    if let Some((set, bits)) = unknown.into_iter().find(|(_, bits)| *bits != 0) {
        return Unfit::new(format!(
            "it has features that be does not copy by blocks ({set} {bits:#x})"
        ));
    }
    if field(216) & incompat::NEEDS_REPAIR != 0 || sb.u8(126) != Some(0) {
        return Unfit::new("it needs to be repaired (run xfs_repair on it)");
    }
    if sb.be64(48) == Some(0) {
        return Unfit::new("its log is on another device");
    }
    if sb.be64(16) != Some(0) || sb.be64(24) != Some(0) {
        return Unfit::new("it has a realtime section");
    }
    Ok(())
}

/// Whether the checksum at `offset` is that of the other bytes.
fn has_valid_checksum(bytes: &[u8], offset: usize) -> bool {
    let Some(found) = bytes.get(offset..offset + 4) else { return false };
    let sum = crc32c(crc32c(crc32c(!0, &bytes[..offset]), &[0; 4]), &bytes[offset + 4..]);
    found == (!sum).to_le_bytes()
}

fn read(source: &dyn Source, at: u64, len: usize) -> Result<Vec<u8>, Unfit> {
    let mut bytes = vec![0; len];
    match source.read_at(at, &mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) => Unfit::new(format!("it cannot be read at byte {at} ({error})")),
    }
}
