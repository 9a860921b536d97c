//! The disk image: a GPT (UEFI specification, chapter 5) with an EFI system partition, and BIOS
//! boot code in the gap before that partition.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;

use gpt::disk::LogicalBlockSize;
use gpt::mbr::{MBRError, ProtectiveMBR};
use gpt::partition::Partition;
use gpt::{GptConfig, GptError, partition_types};
use uuid::Uuid;

use crate::bios::{self, BootCode};
use crate::fat::{self, Volume};

const SECTOR: u64 = 512;
const MIB: u64 = 1 << 20;
/// Space before the EFI system partition, and after it for the backup GPT.
const MARGIN: u64 = MIB;
/// Free space for files that the user copies to the stick later.
const FREE_SPACE: u64 = 32 * MIB;
/// The smallest partition that has clusters of 1 KiB. Firmware reads those faster than clusters of
/// 512 bytes.
const SMALLEST: u64 = 72 * MIB;

/// Why a disk image could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be written.
    #[error("writing the disk image")]
    Write(#[from] io::Error),
    /// The partition table cannot be written.
    #[error("writing the partition table")]
    Table(#[from] GptError),
    /// The protective MBR cannot be written.
    #[error("writing the protective MBR")]
    Mbr(#[from] MBRError),
    /// The file system cannot be written.
    #[error(transparent)]
    Fat(#[from] fat::Error),
}

/// The contents of a disk image.
#[derive(Debug)]
pub struct Disk<'a> {
    /// Files of the EFI system partition, by path.
    pub files: BTreeMap<String, &'a [u8]>,
    /// Timestamp of all files, in seconds since 1970, UTC.
    pub time: u64,
}

impl Disk<'_> {
    /// Size of the EFI system partition in bytes: the files and [`FREE_SPACE`].
    fn partition_size(&self) -> u64 {
        let files: u64 = self.files.values().map(|data| data.len() as u64).sum();
        (files + FREE_SPACE).next_multiple_of(MIB).max(SMALLEST)
    }

    /// Size of the whole image in bytes.
    pub fn size(&self) -> u64 {
        self.partition_size() + 2 * MARGIN
    }

    /// Serial number of the FAT file system.
    pub fn volume_id(&self) -> u32 {
        let [a, b, c, d, ..] = *guid(&self.identity(), "volume").as_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Writes the image to `out`, which must consist of [`Disk::size`] zero bytes.
    ///
    /// All identifiers are derived from the content, so that different images have different
    /// identifiers and the same content always gives the same image.
    ///
    /// # Errors
    /// When the files do not fit on FAT or `out` cannot be written.
    pub fn write(
        &self,
        boot_code: &BootCode,
        out: &mut (impl Read + Write + Seek + std::fmt::Debug),
    ) -> Result<(), Error> {
        let identity = self.identity();
        let partition = |name: &str, kind, blocks: Range<u64>| Partition {
            part_type_guid: kind,
            part_guid: guid(&identity, name),
            first_lba: blocks.start,
            last_lba: blocks.end - 1,
            flags: 0,
            name: name.into(),
        };
        let first = MARGIN / SECTOR;
        let esp = first..first + self.partition_size() / SECTOR;
        let partitions = BTreeMap::from([
            (1, partition("lifeboat", partition_types::EFI, esp)),
            (2, partition("lifeboat-bios", partition_types::BIOS, bios::BLOCKS)),
        ]);
        let blocks = u32::try_from(self.size() / SECTOR - 1).unwrap_or(u32::MAX);
        ProtectiveMBR::with_lb_size(blocks).overwrite_lba0(out)?;
        let mut table = GptConfig::new()
            .writable(true)
            .logical_block_size(LogicalBlockSize::Lb512)
            .create_from_device(&mut *out, Some(guid(&identity, "disk")))?;
        table.update_partitions(partitions)?;
        table.write()?;
        for (block, code) in [(0, &boot_code.mbr), (bios::BLOCKS.start, &boot_code.core)] {
            out.seek(SeekFrom::Start(block * SECTOR))?;
            out.write_all(code)?;
        }
        let volume = Volume {
            size: self.partition_size(),
            hidden_sectors: first as u32,
            label: "LIFEBOAT",
            id: self.volume_id(),
            time: self.time,
            files: self.files.clone(),
        };
        volume.write(out, MARGIN)?;
        Ok(())
    }

    fn identity(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for (path, data) in &self.files {
            hasher.update(&(path.len() as u64).to_le_bytes());
            hasher.update(path.as_bytes());
            hasher.update(&(data.len() as u64).to_le_bytes());
            hasher.update(data);
        }
        hasher.finalize()
    }
}

fn guid(identity: &blake3::Hash, what: &str) -> Uuid {
    let hash = blake3::keyed_hash(identity.as_bytes(), what.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.as_bytes()[..16]);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn image(content: &[u8]) -> tempfile::NamedTempFile {
        let disk =
            Disk { files: BTreeMap::from([("EFI/BOOT/BOOTX64.EFI".into(), content)]), time: 0 };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(disk.size()).unwrap();
        let code = BootCode { mbr: vec![0x90; bios::MBR_CODE], core: vec![0x90; 200_000] };
        disk.write(&code, file.as_file_mut()).unwrap();
        file
    }

    fn run(program: &str, arguments: &[&str]) -> String {
        let output = Command::new(program).args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program} {arguments:?}: {text}");
        text
    }

    #[test]
    fn sgdisk_fsck_and_mtools_accept_the_image() {
        let content = vec![7; 45 << 20];
        let file = image(&content);
        let path = file.path().to_str().unwrap();
        let verdict = run("sgdisk", &["-v", path]);
        assert!(verdict.contains("No problems found"), "{verdict}");
        let table = run("sgdisk", &["-p", path]);
        assert!(table.contains("EF00  lifeboat"), "{table}");
        assert!(table.contains("EF02  lifeboat-bios"), "{table}");
        let partition = tempfile::NamedTempFile::new().unwrap();
        let mut whole = std::fs::File::open(path).unwrap();
        whole.seek(SeekFrom::Start(MARGIN)).unwrap();
        let size = whole.metadata().unwrap().len() - 2 * MARGIN;
        io::copy(&mut whole.take(size), &mut partition.as_file()).unwrap();
        run("fsck.fat", &["-n", partition.path().to_str().unwrap()]);
        let offset = format!("{path}@@1M");
        let listing = run("mdir", &["-i", &offset, "-b", "-/", "::"]);
        assert!(listing.contains("::/EFI/BOOT/BOOTX64.EFI"), "{listing}");
    }

    #[test]
    fn identical_content_gives_an_identical_image_and_different_content_another_guid() {
        let read = |file: tempfile::NamedTempFile| std::fs::read(file.path()).unwrap();
        let (a, same, other) = (read(image(b"a")), read(image(b"a")), read(image(b"b")));
        assert!(a == same);
        let disk_guid = |image: &[u8]| image[512 + 56..512 + 72].to_vec();
        assert_ne!(disk_guid(&a), disk_guid(&other));
    }
}
