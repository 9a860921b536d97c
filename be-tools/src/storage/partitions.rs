//! Partition tables: GPT (UEFI 2.10, 5.3) and MBR (5.2.1), parsed from any bytes.
//!
//! The `gpt` crate is used elsewhere to write tables. It is not used to read those of hostile
//! disks, because it panics on an unusual entry size and allocates as much as the header demands.

use serde::{Deserialize, Serialize};
use uuid::{Uuid, uuid};

use super::probe::Source;

/// The type GUID of an EFI system partition.
pub const ESP_TYPE: Uuid = uuid!("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");

/// The MBR type of an EFI system partition.
const ESP_MBR_TYPE: u8 = 0xef;

/// The type of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum PartitionType {
    /// GPT.
    Guid(Uuid),
    /// MBR.
    Mbr(u8),
}

impl PartitionType {
    /// It is an EFI system partition.
    pub fn is_esp(self) -> bool {
        matches!(self, PartitionType::Guid(ESP_TYPE) | PartitionType::Mbr(ESP_MBR_TYPE))
    }
}

/// A partition as its table describes it. Its start and its size are in logical blocks of the disk,
/// as in an EFI device path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionInfo {
    /// Its number, from 1.
    pub number: u32,
    /// The first block.
    pub start_lba: u64,
    /// The number of blocks.
    pub size_lba: u64,
    /// The size of a logical block in bytes.
    pub logical_block_size: u32,
    /// Its type, if the table could be read.
    pub kind: Option<PartitionType>,
    /// The PARTUUID in the form of fstab(5) and `root=`; empty if unknown.
    pub part_uuid: String,
    /// The GPT name, with control characters replaced.
    pub name: String,
}

impl PartitionInfo {
    /// It is an EFI system partition.
    pub fn is_esp(&self) -> bool {
        self.kind.is_some_and(PartitionType::is_esp)
    }

    /// The GPT unique GUID.
    pub fn guid(&self) -> Option<Uuid> {
        matches!(self.kind, Some(PartitionType::Guid(_)))
            .then(|| self.part_uuid.parse().ok())
            .flatten()
    }
}

/// A partition table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Its disk GUID (GPT) or disk signature (MBR).
    pub id: String,
    /// It is GPT.
    pub gpt: bool,
    /// Partitions in the order of their numbers.
    pub partitions: Vec<PartitionInfo>,
}

/// Reads the table of a disk with logical blocks of `block` bytes. A GPT whose primary header is
/// damaged is read from its backup.
pub fn read(disk: &dyn Source, block: u32) -> Option<Table> {
    let last = (disk.len() / u64::from(block.max(1))).checked_sub(1)?;
    gpt(disk, block, 1).or_else(|| gpt(disk, block, last)).or_else(|| mbr(disk, block))
}

fn gpt(disk: &dyn Source, block: u32, lba: u64) -> Option<Table> {
    // UEFI requires at least 128. No program makes more than a few times as many.
    const MAX_ENTRIES: u32 = 1024;
    let mut header = [0; 512];
    disk.read_at(lba.checked_mul(u64::from(block))?, &mut header).ok()?;
    let le32 = |offset: usize| u32_at(&header, offset);
    let le64 = |offset: usize| u64_at(&header, offset);
    let header_len = le32(12)? as usize;
    if !header.starts_with(b"EFI PART") || !(92..=512).contains(&header_len) || le64(24)? != lba {
        return None;
    }
    let mut unsigned = header[..header_len].to_vec();
    unsigned[16..20].fill(0);
    let (entries, entry_len) = (le32(80)?, le32(84)?);
    if crc32(&unsigned) != le32(16)? || entries > MAX_ENTRIES || !(128..=4096).contains(&entry_len)
    {
        return None;
    }
    let mut table = vec![0; entries as usize * entry_len as usize];
    disk.read_at(le64(72)?.checked_mul(u64::from(block))?, &mut table).ok()?;
    if crc32(&table) != le32(88)? {
        return None;
    }
    let partitions =
        (1..).zip(table.chunks_exact(entry_len as usize)).filter_map(|(number, entry)| {
            let kind = guid_at(entry, 0).filter(|kind| !kind.is_nil())?;
            let (first, last) = (u64_at(entry, 32)?, u64_at(entry, 40)?);
            let name: Vec<u16> = entry[56..128]
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]))
                .take_while(|c| *c != 0)
                .collect();
            Some(PartitionInfo {
                number,
                start_lba: first,
                size_lba: last.checked_sub(first)?.checked_add(1)?,
                logical_block_size: block,
                kind: Some(PartitionType::Guid(kind)),
                part_uuid: guid_at(entry, 16)?.to_string(),
                name: String::from_utf16_lossy(&name)
                    .chars()
                    .map(|c| if c.is_control() { '?' } else { c })
                    .collect(),
            })
        });
    Some(Table {
        id: guid_at(&header, 56)?.to_string(),
        gpt: true,
        partitions: partitions.collect(),
    })
}

/// Reads primary and logical partitions, and numbers them as the kernel does.
fn mbr(disk: &dyn Source, block: u32) -> Option<Table> {
    const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
    const PROTECTIVE: u8 = 0xee;
    const MAX_LOGICAL: u32 = 124;
    let sector_at = |lba: u64| {
        let mut sector = [0; 512];
        disk.read_at(lba.checked_mul(u64::from(block))?, &mut sector).ok()?;
        sector.ends_with(b"\x55\xaa").then_some(sector)
    };
    let entry = |sector: &[u8; 512], index: usize| {
        let at = 446 + 16 * index;
        let (kind, start, len) =
            (sector[at + 4], u32_at(sector, at + 8)?, u32_at(sector, at + 12)?);
        (kind != 0 && len != 0).then_some((kind, u64::from(start), u64::from(len)))
    };
    let first = sector_at(0)?;
    let signature = u32_at(&first, 440)?;
    let partition = |number: u32, kind, start_lba, size_lba| PartitionInfo {
        number,
        start_lba,
        size_lba,
        logical_block_size: block,
        kind: Some(PartitionType::Mbr(kind)),
        part_uuid: if signature == 0 {
            String::new()
        } else {
            format!("{signature:08x}-{number:02x}")
        },
        name: String::new(),
    };
    let mut partitions = Vec::new();
    let mut extended = None;
    for (number, index) in (1..).zip(0..4) {
        let Some((kind, start, len)) = entry(&first, index) else { continue };
        if kind == PROTECTIVE {
            return None;
        }
        if EXTENDED.contains(&kind) {
            extended = extended.or(Some(start));
        }
        partitions.push(partition(number, kind, start, len));
    }
    if let Some(base) = extended {
        let mut here = base;
        for number in 5..5 + MAX_LOGICAL {
            let Some(sector) = sector_at(here) else { break };
            if let Some((kind, start, len)) = entry(&sector, 0) {
                partitions.push(partition(number, kind, here.saturating_add(start), len));
            }
            match entry(&sector, 1) {
                Some((kind, next, _)) if EXTENDED.contains(&kind) => {
                    here = base.saturating_add(next)
                }
                _ => break,
            }
        }
    }
    (!partitions.is_empty()).then(|| Table {
        id: format!("{signature:08x}"),
        gpt: false,
        partitions,
    })
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..offset + 8)?.try_into().ok().map(u64::from_le_bytes)
}

fn guid_at(bytes: &[u8], offset: usize) -> Option<Uuid> {
    bytes.get(offset..offset + 16)?.try_into().ok().map(Uuid::from_bytes_le)
}

/// The CRC-32 of IEEE 802.3, which GPT uses.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| {
            if c & 1 == 1 { (c >> 1) ^ 0xedb8_8320 } else { c >> 1 }
        })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::storage::testing::image;
    use crate::tool::Tool;

    #[test]
    fn a_table_of_sgdisk_is_read_and_its_backup_too() {
        let disk = image(64 << 20);
        Tool::new("sgdisk")
            .args([
                "-n1:2048:+1M",
                "-t1:ef00",
                "-c1:EFI",
                "-u1:11111111-2222-3333-4444-555555555555",
            ])
            .args(["-n3:8192:+8M", "-t3:8300"])
            .arg(disk.path())
            .run()
            .unwrap();
        let mut bytes = std::fs::read(disk.path()).unwrap();
        let table = read(&bytes, 512).unwrap();
        let esp = &table.partitions[0];
        assert_eq!(
            (esp.number, esp.start_lba, esp.size_lba, esp.name.as_str()),
            (1, 2048, 2048, "EFI")
        );
        assert!(esp.is_esp() && esp.part_uuid == "11111111-2222-3333-4444-555555555555");
        assert_eq!((table.partitions.len(), table.partitions[1].number), (2, 3));
        bytes[512..1024].fill(0xff);
        assert_eq!(read(&bytes, 512).unwrap(), table);
    }

    #[test]
    fn logical_partitions_are_numbered_as_the_kernel_does() {
        let disk = image(64 << 20);
        let script =
            "label: dos\nlabel-id: 0x1234abcd\nsize=8M, type=ef\ntype=5\nsize=8M\nsize=8M\n";
        Tool::new("sfdisk").arg("--quiet").arg(disk.path()).input(script).run().unwrap();
        let table = read(&std::fs::read(disk.path()).unwrap(), 512).unwrap();
        let seen: Vec<_> =
            table.partitions.iter().map(|p| (p.number, p.start_lba, p.size_lba)).collect();
        let dump = Tool::new("sfdisk").arg("--dump").arg(disk.path()).run().unwrap();
        for (number, start, len) in &seen {
            let line = dump
                .lines()
                .find(|l| l.contains(&format!("{}{number} :", disk.path().display())))
                .unwrap();
            assert!(line.contains(&format!("start={start:>12}, size={len:>12}")), "{line}");
        }
        assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), [1, 2, 5, 6]);
        assert_eq!(table.partitions[0].part_uuid, "1234abcd-01");
        assert!(table.partitions[0].is_esp());
    }

    #[test]
    fn an_odd_entry_size_is_no_table_and_no_panic() {
        let mut bytes = vec![0; 1 << 20];
        let header = &mut bytes[512..1024];
        header[..8].copy_from_slice(b"EFI PART");
        header[12] = 92;
        header[24] = 1;
        header[80..84].copy_from_slice(&u32::MAX.to_le_bytes());
        let sum = crc32(&header[..92]);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        assert_eq!(read(&bytes, 512), None);
    }

    proptest! {
        #[test]
        fn no_bytes_cause_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..4096),
            block in 0_u32..5000,
        ) {
            let mut signed = bytes.clone();
            if let Some(end) = signed.get_mut(510..512) {
                end.copy_from_slice(b"\x55\xaa");
            }
            let _ = (read(&bytes, block), read(&signed, 512));
        }
    }
}
