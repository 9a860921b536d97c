//! The reserved sectors before the FATs, the geometry in them, and FAT's timestamps.

use super::name::padded;
use super::volume::Volume;

pub(super) const SECTOR: u32 = 512;
/// Sectors before the first FAT: boot sector, FSInfo, their copies, and unused ones.
pub(super) const RESERVED: u32 = 32;
pub(super) const FATS: u32 = 2;
/// With fewer clusters, drivers treat the file system as FAT16.
pub(super) const FEWEST_CLUSTERS: u32 = 65_525 + 16;
pub(super) const ROOT_CLUSTER: u32 = 2;

#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    sectors: u32,
    sectors_per_cluster: u32,
    pub(super) sectors_per_fat: u32,
    pub(super) clusters: u32,
}

impl Geometry {
    pub(super) fn new(size: u64) -> Option<Self> {
        let sectors = u32::try_from(size / u64::from(SECTOR)).ok()?;
        [8, 4, 2, 1].into_iter().find_map(|sectors_per_cluster| {
            // A multiple of eight sectors, so that the data begins on a 4 KiB boundary.
            let most = sectors / sectors_per_cluster + 2;
            let sectors_per_fat = (most * 4).div_ceil(SECTOR).next_multiple_of(8);
            let data = sectors.checked_sub(RESERVED + FATS * sectors_per_fat)?;
            let clusters = data / sectors_per_cluster;
            (clusters >= FEWEST_CLUSTERS).then_some(Self {
                sectors,
                sectors_per_cluster,
                sectors_per_fat,
                clusters,
            })
        })
    }

    pub(super) fn cluster_size(&self) -> u32 {
        self.sectors_per_cluster * SECTOR
    }

    pub(super) fn offset(&self, cluster: u32) -> u64 {
        let sector = RESERVED + FATS * self.sectors_per_fat;
        u64::from(sector) * u64::from(SECTOR)
            + u64::from(cluster - ROOT_CLUSTER) * u64::from(self.cluster_size())
    }

    pub(super) fn clusters_of(&self, bytes: u64) -> u64 {
        bytes.div_ceil(u64::from(self.cluster_size()))
    }
}

pub(super) fn boot_sector(geometry: &Geometry, volume: &Volume<'_>) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &[0xeb, 0x58, 0x90]);
    put(3, b"LIFEBOAT");
    put(11, &(SECTOR as u16).to_le_bytes());
    put(13, &[geometry.sectors_per_cluster as u8]);
    put(14, &(RESERVED as u16).to_le_bytes());
    put(16, &[FATS as u8]);
    put(21, &[0xf8]); // a hard disk
    put(24, &63u16.to_le_bytes()); // sectors per track
    put(26, &255u16.to_le_bytes()); // heads
    put(28, &volume.hidden_sectors.to_le_bytes());
    put(32, &geometry.sectors.to_le_bytes());
    put(36, &geometry.sectors_per_fat.to_le_bytes());
    put(44, &ROOT_CLUSTER.to_le_bytes());
    put(48, &1u16.to_le_bytes()); // FSInfo
    put(50, &6u16.to_le_bytes()); // copy of the boot sector
    put(64, &[0x80, 0, 0x29]);
    put(67, &volume.id.to_le_bytes());
    put(71, &padded(volume.label));
    put(82, b"FAT32   ");
    put(90, &[0xf4, 0xeb, 0xfd]); // hlt in a loop
    put(510, &[0x55, 0xaa]);
    sector
}

pub(super) fn info_sector(free: u32, next: u32) -> Vec<u8> {
    let mut sector = vec![0; SECTOR as usize];
    let mut put = |at: usize, bytes: &[u8]| sector[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"RRaA");
    put(484, b"rrAa");
    put(488, &free.to_le_bytes());
    put(492, &next.to_le_bytes());
    put(510, &[0x55, 0xaa]);
    sector
}

/// A timestamp of FAT, which begins in 1980.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) date: u16,
    pub(super) time: u16,
}

impl Stamp {
    pub(super) fn new(seconds: u64) -> Self {
        // Days since 1 March of year 0. In years from March on, the leap day is the last day.
        let days = seconds / 86_400 + 719_468;
        let era_day = days % 146_097;
        let era_year = (era_day - era_day / 1460 + era_day / 36_524 - era_day / 146_096) / 365;
        let year_day = era_day - (365 * era_year + era_year / 4 - era_year / 100);
        let month = (5 * year_day + 2) / 153;
        let day = year_day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = days / 146_097 * 400 + era_year + u64::from(month <= 2);
        let Some(years @ 0..=127) = year.checked_sub(1980) else {
            return Self { date: (1 << 5) | 1, time: 0 };
        };
        let second = seconds % 86_400;
        Self {
            date: ((years << 9) | (month << 5) | day) as u16,
            time: (((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2)) as u16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_times_become_fat_timestamps() {
        let stamp = |date: (u16, u16, u16), time: (u16, u16, u16)| Stamp {
            date: ((date.0 - 1980) << 9) | (date.1 << 5) | date.2,
            time: (time.0 << 11) | (time.1 << 5) | (time.2 / 2),
        };
        for (seconds, expected) in [
            (0, stamp((1980, 1, 1), (0, 0, 0))),
            (315_532_800, stamp((1980, 1, 1), (0, 0, 0))),
            (951_827_696, stamp((2000, 2, 29), (12, 34, 56))),
            (1_795_422_645, stamp((2026, 11, 23), (8, 30, 45))),
        ] {
            assert_eq!(Stamp::new(seconds), expected, "{seconds}");
        }
    }
}
