//! Writes a FAT32 file system from a list of files (Microsoft's "FAT: General Overview of On-Disk
//! Format", 1.03). Clusters are allocated in order, so that every file is contiguous and the same
//! files give the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Seek, SeekFrom, Write};

use self::header::{Geometry, RESERVED, ROOT_CLUSTER, SECTOR, Stamp, boot_sector, info_sector};
use self::name::{ShortNames, is_name, long_name_entries, padded};

pub use self::volume::Volume;

mod header;
mod name;
mod volume;

const END_OF_CHAIN: u32 = 0x0fff_ffff;
const DIRECTORY: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
const VOLUME_LABEL: u8 = 0x08;

/// Why a file system could not be written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device or file cannot be written.
    #[error("writing the FAT file system")]
    Write(#[from] io::Error),
    /// A FAT32 file system or file cannot have this size.
    #[error("{0} bytes is too small or too large for FAT32")]
    Size(u64),
    /// The files do not fit.
    #[error("the files need {needed} bytes, but the FAT file system has only {available}")]
    Full {
        /// Bytes of the files in whole clusters.
        needed: u64,
        /// Bytes of all clusters.
        available: u64,
    },
    /// FAT cannot hold the name.
    #[error("{0:?} cannot be a path on FAT")]
    Name(String),
}

/// A directory of the tree to write.
#[derive(Debug, Default)]
struct Directory<'a> {
    directories: BTreeMap<&'a str, Directory<'a>>,
    files: BTreeMap<&'a str, &'a [u8]>,
}

impl<'a> Directory<'a> {
    fn add(&mut self, path: &'a str, data: &'a [u8]) -> Result<(), Error> {
        let (name, below) = match path.split_once('/') {
            Some((name, below)) => (name, Some(below)),
            None => (path, None),
        };
        if !is_name(name) {
            return Err(Error::Name(path.into()));
        }
        match below {
            Some(below) => self.directories.entry(name).or_default().add(below, data),
            None => {
                self.files.insert(name, data);
                Ok(())
            }
        }
    }

    /// Number of directory entries that the names take, including those of long names.
    fn entries(&self) -> usize {
        self.directories
            .keys()
            .chain(self.files.keys())
            .map(|name| 1 + long_name_entries(name))
            .sum()
    }
}

impl Volume<'_> {
    /// Writes the file system to `out`, beginning at offset `start`. Bytes that are not written
    /// must already be zero.
    ///
    /// # Errors
    /// When a name is invalid, the files do not fit, or `out` cannot be written.
    pub fn write(&self, out: &mut (impl Write + Seek), start: u64) -> Result<(), Error> {
        let geometry = Geometry::new(self.size).ok_or(Error::Size(self.size))?;
        let mut root = Directory::default();
        for (path, data) in &self.files {
            root.add(path, data)?;
        }
        let mut writer = Writer {
            out,
            start,
            geometry,
            stamp: Stamp::new(self.time),
            fat: vec![0x0fff_fff8, END_OF_CHAIN],
        };
        writer.check_room(&root)?;
        let cluster = writer.directory_clusters(&root, true);
        writer.directory(&root, cluster, None, self.label)?;
        writer.finish(self)
    }
}

struct Writer<'a, W> {
    out: &'a mut W,
    start: u64,
    geometry: Geometry,
    stamp: Stamp,
    fat: Vec<u32>,
}

impl<W: Write + Seek> Writer<'_, W> {
    fn check_room(&self, root: &Directory<'_>) -> Result<(), Error> {
        fn clusters(geometry: &Geometry, directory: &Directory<'_>) -> u64 {
            let own = geometry.clusters_of(32 * (directory.entries() as u64 + 2));
            let files = directory.files.values();
            let files = files.map(|data| geometry.clusters_of(data.len() as u64));
            let below = directory.directories.values().map(|f| clusters(geometry, f));
            own + files.chain(below).sum::<u64>()
        }
        let needed = clusters(&self.geometry, root);
        let size = u64::from(self.geometry.cluster_size());
        if needed > u64::from(self.geometry.clusters) {
            return Err(Error::Full {
                needed: needed * size,
                available: u64::from(self.geometry.clusters) * size,
            });
        }
        Ok(())
    }

    /// Allocates a chain for `bytes` and returns its first cluster, or 0 if it needs none.
    fn allocate(&mut self, bytes: u64) -> u32 {
        let count = self.geometry.clusters_of(bytes) as usize;
        let first = self.fat.len() as u32;
        if count == 0 {
            return 0;
        }
        for next in (first + 1..).take(count - 1) {
            self.fat.push(next);
        }
        self.fat.push(END_OF_CHAIN);
        first
    }

    fn directory_clusters(&mut self, directory: &Directory<'_>, root: bool) -> u32 {
        // The root has an entry for its label, other directories have "." and "..".
        let own = if root { 1 } else { 2 };
        self.allocate(32 * (directory.entries() + own) as u64)
    }

    fn write_at(&mut self, cluster: u32, data: &[u8]) -> io::Result<()> {
        if cluster != 0 {
            let offset = self.start + self.geometry.offset(cluster);
            self.out.seek(SeekFrom::Start(offset))?;
            self.out.write_all(data)?;
        }
        Ok(())
    }

    /// Writes the directory at `cluster` and everything in it.
    fn directory(
        &mut self,
        directory: &Directory<'_>,
        cluster: u32,
        parent: Option<u32>,
        label: &str,
    ) -> Result<(), Error> {
        let mut table = Vec::new();
        match parent {
            None => self.entry(&mut table, padded(label), VOLUME_LABEL, 0, 0),
            Some(parent) => {
                let parent = if parent == ROOT_CLUSTER { 0 } else { parent };
                self.entry(&mut table, padded("."), DIRECTORY, cluster, 0);
                self.entry(&mut table, padded(".."), DIRECTORY, parent, 0);
            }
        }
        let mut short_names = ShortNames::default();
        for (name, below) in &directory.directories {
            let first = self.directory_clusters(below, false);
            let short = short_names.entry_name(name, &mut table);
            self.entry(&mut table, short, DIRECTORY, first, 0);
            self.directory(below, first, Some(cluster), label)?;
        }
        for (name, data) in &directory.files {
            let size = u32::try_from(data.len()).map_err(|_| Error::Size(data.len() as u64))?;
            let first = self.allocate(u64::from(size));
            let short = short_names.entry_name(name, &mut table);
            self.entry(&mut table, short, ARCHIVE, first, size);
            self.write_at(first, data)?;
        }
        self.write_at(cluster, &table)?;
        Ok(())
    }

    fn entry(&self, table: &mut Vec<u8>, name: [u8; 11], kind: u8, cluster: u32, size: u32) {
        let Stamp { date, time } = self.stamp;
        table.extend(name);
        table.extend([kind, 0, 0]);
        for word in [time, date, date, (cluster >> 16) as u16, time, date, cluster as u16] {
            table.extend(word.to_le_bytes());
        }
        table.extend(size.to_le_bytes());
    }

    fn finish(self, volume: &Volume<'_>) -> Result<(), Error> {
        let used = self.fat.len() as u32 - ROOT_CLUSTER;
        let boot = boot_sector(&self.geometry, volume);
        let info = info_sector(self.geometry.clusters - used, self.fat.len() as u32);
        let fat: Vec<u8> = self.fat.iter().flat_map(|next| next.to_le_bytes()).collect();
        let fat_at = |copy| RESERVED + copy * self.geometry.sectors_per_fat;
        for (sector, data) in [
            (0, boot.as_slice()),
            (1, &info),
            (6, &boot),
            (7, &info),
            (fat_at(0), &fat),
            (fat_at(1), &fat),
        ] {
            let offset = self.start + u64::from(sector) * u64::from(SECTOR);
            self.out.seek(SeekFrom::Start(offset))?;
            self.out.write_all(data)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::process::Command;

    const MIB: u64 = 1 << 20;

    fn volume<'a>(files: &[(&str, &'a [u8])]) -> Volume<'a> {
        Volume {
            size: 72 * MIB,
            hidden_sectors: 2048,
            label: "LIFEBOAT",
            id: 0x1234_5678,
            time: 1_795_422_645,
            files: files.iter().map(|(path, data)| ((*path).into(), *data)).collect(),
        }
    }

    fn written(volume: &Volume<'_>) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(volume.size).unwrap();
        volume.write(&mut file, 0).unwrap();
        file
    }

    fn fsck(file: &tempfile::NamedTempFile) {
        let output = Command::new("fsck.fat").arg("-nv").arg(file.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    #[test]
    fn fsck_accepts_the_file_system_and_the_files_read_back() {
        let big: Vec<u8> = (0..3_000_001u32).map(|n| (n * 7 / 3) as u8).collect();
        let mut files = vec![
            ("EFI/BOOT/BOOTX64.EFI".to_owned(), big.as_slice()),
            ("EFI/lifeboat/Ein langer Name, größer als acht.efi".into(), b"x"),
            ("empty".into(), b""),
            ("thirteen-long".into(), b"13"),
        ];
        files.extend((0..300).map(|n| (format!("many/file number {n}.text"), b"many".as_slice())));
        let list: Vec<(&str, &[u8])> = files.iter().map(|(p, d)| (p.as_str(), *d)).collect();
        let file = written(&volume(&list));
        fsck(&file);
        let system =
            fatfs::FileSystem::new(file.reopen().unwrap(), fatfs::FsOptions::new()).unwrap();
        assert_eq!(system.volume_label(), "LIFEBOAT");
        for (path, data) in &files {
            let mut read = Vec::new();
            system.root_dir().open_file(path).unwrap().read_to_end(&mut read).unwrap();
            assert!(read == *data, "{path}");
        }
        assert_eq!(system.root_dir().open_dir("many").unwrap().iter().count(), 302);
    }

    #[test]
    fn mtools_can_add_more_files() {
        let file = written(&volume(&[("EFI/BOOT/BOOTX64.EFI", b"efi")]));
        let status = Command::new("mcopy")
            .arg("-i")
            .arg(file.path())
            .args(["/etc/os-release", "::/EFI/lifeboat.txt"])
            .status()
            .unwrap();
        assert!(status.success());
        fsck(&file);
    }

    #[test]
    fn invalid_sizes_and_names_are_refused_before_writing() {
        let big = vec![0; 80 * MIB as usize];
        let error = volume(&[("big", &big)]).write(&mut io::Cursor::new(Vec::new()), 0);
        assert!(matches!(error, Err(Error::Full { .. })), "{error:?}");
        let mut small = volume(&[]);
        small.size = 8 * MIB;
        let error = small.write(&mut io::Cursor::new(Vec::new()), 0);
        assert!(matches!(error, Err(Error::Size(_))), "{error:?}");
        let error = volume(&[("a:b", b"")]).write(&mut io::Cursor::new(Vec::new()), 0);
        assert!(matches!(error, Err(Error::Name(_))), "{error:?}");
    }
}
