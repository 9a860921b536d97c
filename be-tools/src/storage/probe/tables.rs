//! Recognises a partition table: UEFI 2.10 section 5.3 (GPT), 5.2.1 (MBR).

use super::bytes::Image;
use super::content::{Kind, SuperBlock};
use super::fs_uuid::FsUuid;

/// The header is in the second logical block, whose size is not known.
pub(super) fn gpt(image: &Image) -> Option<SuperBlock> {
    [512_u64, 1024, 2048, 4096].into_iter().find_map(|block| {
        let header = image.at(block, 92)?;
        if !header.has(0, b"EFI PART") || header.le64(24)? != 1 {
            return None;
        }
        let guid = header.slice(56, 16)?.try_into().ok().map(uuid::Uuid::from_bytes_le)?;
        let uuid = FsUuid::parse(&guid.to_string());
        Some(SuperBlock { uuid, ..SuperBlock::new(Kind::Gpt) })
    })
}

/// An MBR has four entries with valid boot flags. At least one has a type, a start and a length.
pub(super) fn mbr(image: &Image) -> Option<SuperBlock> {
    let sector = image.at(0, 512)?;
    (sector.has(510, b"\x55\xaa")).then_some(())?;
    let mut used = false;
    for entry in (446..510).step_by(16) {
        let (flag, kind) = (sector.u8(entry)?, sector.u8(entry + 4)?);
        let (start, len) = (sector.le32(entry + 8)?, sector.le32(entry + 12)?);
        if flag & 0x7f != 0 {
            return None;
        }
        used |= kind != 0 && start != 0 && len != 0;
    }
    used.then(|| SuperBlock {
        uuid: sector
            .le32(440)
            .filter(|id| *id != 0)
            .map(|id| FsUuid::parse(&format!("{id:08x}")))
            .unwrap_or_default(),
        ..SuperBlock::new(Kind::Mbr)
    })
}
