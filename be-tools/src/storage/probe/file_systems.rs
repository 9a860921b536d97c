//! Super blocks of file systems and swap: ext (`fs/ext4/ext4.h`), btrfs (on-disk format page), swap
//! (`linux/swap.h`), squashfs 4.0, erofs (`erofs_fs.h`), f2fs (`f2fs_fs.h`), ISO 9660.

use super::bytes::Image;
use super::content::{Kind, SuperBlock};
use super::fs_uuid::FsUuid;

pub(super) fn ext(image: &Image) -> Option<SuperBlock> {
    const JOURNAL: u32 = 0x4;
    // The features of ext3. Any other feature makes it ext4.
    const INCOMPAT_EXT3: u32 = 0x2 | 0x4 | 0x10;
    const RO_COMPAT_EXT3: u32 = 0x1 | 0x2 | 0x4;
    const RECOVER: u32 = 0x4;
    const JOURNAL_DEVICE: u32 = 0x8;
    const META_64BIT: u32 = 0x80;
    // EXT4_VALID_FS: without a journal, the kernel clears it as long as it may write.
    const CLEAN: u16 = 0x1;

    let sb = image.at(1024, 1024)?;
    if sb.le16(0x38)? != 0xef53 {
        return None;
    }
    let (compat, incompat, ro_compat) = (sb.le32(0x5c)?, sb.le32(0x60)?, sb.le32(0x64)?);
    let kind = match () {
        () if incompat & JOURNAL_DEVICE != 0 => return None,
        () if incompat & !INCOMPAT_EXT3 != 0 || ro_compat & !RO_COMPAT_EXT3 != 0 => Kind::Ext4,
        () if compat & JOURNAL != 0 => Kind::Ext3,
        () => Kind::Ext2,
    };
    let shift = sb.le32(0x18)?.checked_add(10).filter(|shift| *shift <= 16)?;
    let high = |offset| {
        if incompat & META_64BIT != 0 { sb.le32(offset).map_or(0, u64::from) << 32 } else { 0 }
    };
    let blocks = u64::from(sb.le32(0x4)?) | high(0x150);
    let free = u64::from(sb.le32(0xc)?) | high(0x158);
    // It has the number of mounts for writing, and the time of the last write.
    let is_at_rest = incompat & RECOVER == 0 && sb.le16(0x3a)? & CLEAN != 0;
    let digest = || Some(blake3::hash(sb.slice(0, 1024)?).to_hex()[..32].to_owned());
    Some(SuperBlock {
        uuid: sb.uuid(0x68)?,
        label: sb.text(0x78, 16)?,
        size: blocks.checked_mul(1 << shift),
        used: blocks.checked_sub(free).and_then(|used| used.checked_mul(1 << shift)),
        dirty: incompat & RECOVER != 0,
        at_rest: is_at_rest.then(digest).flatten(),
        ..SuperBlock::new(kind)
    })
}

pub(super) fn btrfs(image: &Image) -> Option<SuperBlock> {
    let sb = image.at(0x1_0000, 4096)?;
    if !sb.has(0x40, b"_BHRfS_M") {
        return None;
    }
    Some(SuperBlock {
        uuid: sb.uuid(0x20)?,
        label: sb.text(0x12b, 256)?,
        size: sb.le64(0x70),
        used: sb.le64(0x78),
        dirty: sb.le64(0x60)? != 0,
        devices: sb.le64(0x88)?.max(1),
        // The first field of `dev_item` (`struct btrfs_super_block`).
        device_id: sb.le64(0xc9),
        ..SuperBlock::new(Kind::Btrfs)
    })
}

/// The magic is at the end of the first page, whose size depends on the machine.
pub(super) fn swap(image: &Image) -> Option<SuperBlock> {
    [4096_u64, 8192, 16384, 65536].into_iter().find_map(|page| {
        let tail = image.at(page - 10, 10)?;
        let kind = match &*tail.0 {
            b"SWAPSPACE2" | b"SWAP-SPACE" => Kind::Swap,
            magic
                if [&b"S1SUSPEND"[..], b"S2SUSPEND", b"ULSUSPEND", b"LINHIB0001"]
                    .iter()
                    .any(|m| magic.starts_with(m)) =>
            {
                Kind::Hibernation
            }
            _ => return None,
        };
        let header = image.at(1024, 64)?;
        if header.le32(0)? != 1 {
            return None;
        }
        let pages = u64::from(header.le32(4)?) + 1;
        Some(SuperBlock {
            uuid: header.uuid(12)?,
            label: header.text(28, 16)?,
            size: pages.checked_mul(page),
            ..SuperBlock::new(kind)
        })
    })
}

pub(super) fn squashfs(image: &Image) -> Option<SuperBlock> {
    let sb = image.at(0, 96)?;
    (sb.has(0, b"hsqs") && sb.le16(28)? == 4).then_some(())?;
    let used = sb.le64(40);
    Some(SuperBlock { size: used, used, ..SuperBlock::new(Kind::SquashFs) })
}

pub(super) fn erofs(image: &Image) -> Option<SuperBlock> {
    let sb = image.at(1024, 128)?;
    (sb.le32(0)? == 0xe0f5_e1e2).then_some(())?;
    let shift = sb.u8(12).filter(|shift| (9..=16).contains(shift))?;
    let size = u64::from(sb.le32(36)?).checked_shl(u32::from(shift));
    Some(SuperBlock {
        uuid: sb.uuid(48)?,
        label: sb.text(64, 16)?,
        size,
        used: size,
        ..SuperBlock::new(Kind::Erofs)
    })
}

pub(super) fn f2fs(image: &Image) -> Option<SuperBlock> {
    let sb = image.at(1024, 1200)?;
    (sb.le32(0)? == 0xf2f5_2010).then_some(())?;
    let shift = sb.le32(16).filter(|shift| (9..=16).contains(shift))?;
    let name: Vec<u16> =
        (0..512).map_while(|i| sb.le16(124 + 2 * i)).take_while(|c| *c != 0).collect();
    let label = super::bytes::clean_text(String::from_utf16_lossy(&name).as_bytes());
    Some(SuperBlock {
        uuid: sb.uuid(108)?,
        label,
        size: sb.le64(36)?.checked_mul(1 << shift),
        ..SuperBlock::new(Kind::F2fs)
    })
}

/// The primary volume descriptor (ECMA-119 8.4). Its UUID is its modification date, as for `blkid`.
pub(super) fn iso9660(image: &Image) -> Option<SuperBlock> {
    let descriptor = image.at(32768, 2048)?;
    (descriptor.has(0, b"\x01CD001\x01")).then_some(())?;
    let date = |offset| {
        let digits = descriptor.slice(offset, 16)?;
        (digits.iter().all(u8::is_ascii_digit) && digits.iter().any(|d| *d != b'0')).then(|| {
            let text = |range: std::ops::Range<usize>| {
                String::from_utf8_lossy(&digits[range]).into_owned()
            };
            [
                text(0..4),
                text(4..6),
                text(6..8),
                text(8..10),
                text(10..12),
                text(12..14),
                text(14..16),
            ]
            .join("-")
        })
    };
    Some(SuperBlock {
        uuid: FsUuid::parse(&date(830).or_else(|| date(813)).unwrap_or_default()),
        label: descriptor.text(40, 32)?,
        size: u64::from(descriptor.le32(80)?).checked_mul(u64::from(descriptor.le16(128)?)),
        ..SuperBlock::new(Kind::Iso9660)
    })
}
