//! Super blocks of containers: LUKS (LUKS1 1.2.3, LUKS2 1.1.4), LVM2 labels, Linux md super blocks
//! (`md_p.h`, 0.90 and 1.x) and ZFS labels.

use super::bytes::{Image, clean_text};
use super::content::{Kind, SuperBlock};
use super::fs_uuid::FsUuid;

pub(super) fn luks(image: &Image) -> Option<SuperBlock> {
    let header = image.at(0, 512)?;
    if !header.has(0, b"LUKS\xba\xbe") {
        return None;
    }
    let (kind, label) = match header.be16(6)? {
        1 => (Kind::Luks1, String::new()),
        2 => (Kind::Luks2, header.text(24, 48)?),
        _ => return None,
    };
    let uuid = FsUuid::parse(&header.text(168, 40)?);
    Some(SuperBlock { uuid, label, ..SuperBlock::new(kind) })
}

/// The label is in one of the first four 512-byte sectors.
pub(super) fn lvm(image: &Image) -> Option<SuperBlock> {
    (0..4).find_map(|sector| {
        let label = image.at(sector * 512, 512)?;
        if !label.has(0, b"LABELONE") || !label.has(24, b"LVM2 001") || label.le64(8)? != sector {
            return None;
        }
        let header = label.le32(20)? as usize;
        let id = label.slice(header, 32)?;
        if !id.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut uuid = String::new();
        for (index, byte) in id.iter().enumerate() {
            if [6, 10, 14, 18, 22, 26].contains(&index) {
                uuid.push('-');
            }
            uuid.push(char::from(*byte));
        }
        Some(SuperBlock {
            uuid: FsUuid::of_lvm(&uuid),
            size: label.le64(header.checked_add(32)?),
            ..SuperBlock::new(Kind::Lvm)
        })
    })
}

const MD_MAGIC: u32 = 0xa92b_4efc;

/// Super block 1.1 is at the start, 1.2 at 4 KiB, 1.0 in the last 8 to 12 KiB.
pub(super) fn md_1(image: &Image) -> Option<SuperBlock> {
    let end = (image.len() >> 9).checked_sub(16).map(|sector| (sector & !7) << 9);
    [Some(0), Some(4096), end].into_iter().flatten().find_map(|offset| {
        let block = image.at(offset, 256)?;
        if block.le32(0)? != MD_MAGIC || block.le32(4)? != 1 || block.le64(144)? != offset >> 9 {
            return None;
        }
        Some(SuperBlock {
            uuid: block.uuid(16)?,
            label: block.text(32, 32)?,
            ..SuperBlock::new(Kind::MdRaid)
        })
    })
}

/// Super block 0.90 begins at the last multiple of 64 KiB with 64 KiB after it.
pub(super) fn md_0_90(image: &Image) -> Option<SuperBlock> {
    let offset = (image.len() & !0xffff).checked_sub(0x1_0000)?;
    let block = image.at(offset, 64)?;
    if block.le32(0)? != MD_MAGIC || block.le32(4)? != 0 {
        return None;
    }
    let words = [block.le32(20)?, block.le32(52)?, block.le32(56)?, block.le32(60)?];
    let mut id = [0; 16];
    for (bytes, word) in id.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    Some(SuperBlock {
        uuid: FsUuid::parse(&uuid::Uuid::from_bytes(id).to_string()),
        ..SuperBlock::new(Kind::MdRaid)
    })
}

/// The first label's name-value list begins at 16 KiB, in XDR, with the pair `version`.
pub(super) fn zfs(image: &Image) -> Option<SuperBlock> {
    const LIST: u64 = 16 << 10;
    let list = image.at(LIST, 4096)?;
    if list.u8(0)? != 1 || !list.has(20, b"\0\0\0\x07version") {
        return None;
    }
    let mut found = SuperBlock::new(Kind::Zfs);
    // Each pair: encoded size, decoded size, name length, name padded to 4, type, elements, value.
    let mut pair = 12;
    while let Some(size @ 20..) = list.be32(pair).map(|size| size as usize) {
        let Some(name_len) = list.be32(pair + 8).map(|len| len as usize) else { break };
        let Some(name) = list.slice(pair + 12, name_len) else { break };
        let value = pair + 12 + name_len.next_multiple_of(4) + 8;
        match name {
            b"name" => {
                let len = list.be32(value)? as usize;
                found.label = clean_text(list.slice(value + 4, len)?);
            }
            b"pool_guid" => found.uuid = FsUuid::parse(&list.be64(value)?.to_string()),
            _ => {}
        }
        pair += size;
    }
    Some(found)
}
