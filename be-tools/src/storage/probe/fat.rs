//! Boot sectors with a BIOS parameter block: FAT (Microsoft FAT specification 1.03), exFAT, NTFS.

use super::bytes::{Image, clean_text};
use super::content::{Kind, SuperBlock};
use super::fs_uuid::FsUuid;

pub(super) fn ntfs(image: &Image) -> Option<SuperBlock> {
    let boot = image.at(0, 512)?;
    (boot.has(3, b"NTFS    ")).then_some(())?;
    let sector = u64::from(boot.le16(11)?);
    Some(SuperBlock {
        uuid: FsUuid::parse(&format!("{:016X}", boot.le64(72)?)),
        size: boot.le64(40)?.checked_mul(sector),
        ..SuperBlock::new(Kind::Ntfs)
    })
}

pub(super) fn exfat(image: &Image) -> Option<SuperBlock> {
    let boot = image.at(0, 512)?;
    (boot.has(3, b"EXFAT   ")).then_some(())?;
    let shift = boot.u8(108).filter(|shift| (9..=12).contains(shift))?;
    Some(SuperBlock {
        uuid: serial(boot.le32(100)?),
        size: boot.le64(72)?.checked_mul(1 << shift),
        ..SuperBlock::new(Kind::ExFat)
    })
}

/// The offsets and sizes of the parts of a FAT, in bytes.
struct Geometry {
    sector: u64,
    cluster: u64,
    fat: u64,
    root: u64,
    root_len: u64,
    data: u64,
    clusters: u64,
    size: u64,
    /// The first cluster of the root directory, on FAT32.
    root_cluster: Option<u32>,
}

fn geometry(image: &Image) -> Option<Geometry> {
    let boot = image.at(0, 512)?;
    let sector = u64::from(boot.le16(11)?);
    let per_cluster = u64::from(boot.u8(13)?);
    let (reserved, fats) = (u64::from(boot.le16(14)?), u64::from(boot.u8(16)?));
    let media = boot.u8(21)?;
    let plausible = matches!(sector, 512 | 1024 | 2048 | 4096)
        && per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=4).contains(&fats)
        && (media >= 0xf8 || media == 0xf0)
        && boot.has(510, b"\x55\xaa");
    plausible.then_some(())?;
    let or_large = |small: u16, large: Option<u32>| -> Option<u64> {
        if small != 0 { Some(u64::from(small)) } else { large.map(u64::from) }
    };
    let sectors = or_large(boot.le16(19)?, boot.le32(32))?;
    let small_fat = boot.le16(22)?;
    let per_fat = or_large(small_fat, boot.le32(36))?;
    (sectors > 0 && per_fat > 0).then_some(())?;
    let root_sectors = (u64::from(boot.le16(17)?) * 32).div_ceil(sector);
    let root = reserved + fats * per_fat;
    let data = root + root_sectors;
    let clusters = sectors.checked_sub(data)? / per_cluster;
    (clusters > 0).then_some(())?;
    Some(Geometry {
        sector,
        cluster: per_cluster * sector,
        fat: reserved * sector,
        root: root * sector,
        root_len: root_sectors * sector,
        data: data * sector,
        clusters,
        size: sectors * sector,
        root_cluster: if small_fat == 0 { boot.le32(44) } else { None },
    })
}

pub(super) fn vfat(image: &Image) -> Option<SuperBlock> {
    let geometry = geometry(image)?;
    let boot = image.at(0, 512)?;
    let extended = if geometry.root_cluster.is_some() { 66 } else { 38 };
    let (uuid, boot_label) = match boot.u8(extended)? {
        0x28 => (serial(boot.le32(extended + 1)?), String::new()),
        0x29 => (serial(boot.le32(extended + 1)?), boot.text(extended + 5, 11)?),
        _ => (FsUuid::default(), String::new()),
    };
    let label = volume_label(image, &geometry).unwrap_or(boot_label);
    let free = geometry.root_cluster.and_then(|_| {
        let info = image.at(u64::from(boot.le16(48)?) * geometry.sector, 512)?;
        info.has(0, b"RRaA")
            .then(|| info.le32(488))
            .flatten()
            .filter(|free| u64::from(*free) <= geometry.clusters)
    });
    Some(SuperBlock {
        uuid,
        label: if label == "NO NAME" { String::new() } else { label },
        size: Some(geometry.size),
        used: free.map(|free| (geometry.clusters - u64::from(free)) * geometry.cluster),
        ..SuperBlock::new(Kind::Vfat)
    })
}

/// The label in the root directory, which takes precedence over that of the boot sector.
fn volume_label(image: &Image, geometry: &Geometry) -> Option<String> {
    // A label is near the start of the root directory. The limit ends a loop in the FAT.
    const MAX_CLUSTERS: usize = 64;
    let Some(mut cluster) = geometry.root_cluster else {
        return label_in(image, geometry.root, geometry.root_len.min(1 << 20));
    };
    for _ in 0..MAX_CLUSTERS {
        let index = u64::from(cluster).checked_sub(2).filter(|index| *index < geometry.clusters)?;
        if let Some(label) =
            label_in(image, geometry.data + index * geometry.cluster, geometry.cluster)
        {
            return Some(label);
        }
        cluster = image.at(geometry.fat + u64::from(cluster) * 4, 4)?.le32(0)? & 0x0fff_ffff;
    }
    None
}

fn label_in(image: &Image, offset: u64, len: u64) -> Option<String> {
    const LABEL: u8 = 0x08;
    const ONLY_LABEL: u8 = 0x18;
    const LONG_NAME: u8 = 0x0f;
    let directory = image.at(offset, usize::try_from(len).ok()?)?;
    for entry in directory.0.chunks_exact(32) {
        match (entry[0], entry[11]) {
            (0, _) => return None,
            (0xe5, _) | (_, LONG_NAME) => {}
            (_, attributes) if attributes & ONLY_LABEL == LABEL => {
                let mut name = entry[..11].to_vec();
                if name[0] == 0x05 {
                    name[0] = 0xe5;
                }
                return Some(clean_text(&name));
            }
            _ => {}
        }
    }
    None
}

fn serial(number: u32) -> FsUuid {
    FsUuid::parse(&format!("{:04X}-{:04X}", number >> 16, number & 0xffff))
}
