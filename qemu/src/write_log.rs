//! The log of all writes to a disk, as QEMU's `blklogwrites` driver keeps it, in the format of
//! Linux's dm-log-writes (Documentation/admin-guide/device-mapper/log-writes.rst; the structures
//! are in drivers/md/dm-log-writes.c).
//!
//! A disk is rebuilt from the log as a power cut leaves it: without the writes that the guest had
//! not flushed. Killing QEMU alone would lose nothing, because they are in the host's page cache.

use crate::host::Tool;
use crate::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const FLUSH: u64 = 1;
const DISCARD: u64 = 4;
const MARK: u64 = 8;
/// The known flags. The others are FUA and metadata, which make no difference here.
const KNOWN: u64 = FLUSH | 2 | DISCARD | MARK | 16;

/// One write, flush or discard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Its offset on the disk in bytes.
    at: u64,
    length: u64,
    flags: u64,
    /// The offset of its data in the log in bytes.
    data: u64,
}

/// A log that has been read.
#[derive(Debug)]
pub struct WriteLog {
    path: PathBuf,
    entries: Vec<Entry>,
    /// The number of entries in the super block, which is written with every flush.
    counted: usize,
}

impl WriteLog {
    /// Reads a log, which may still be written to.
    ///
    /// # Errors
    /// The file cannot be read, or is not a log.
    pub fn open(path: &Path) -> Result<WriteLog> {
        let doing = || format!("reading the write log {}", path.display());
        let mut file = File::open(path).map_err(Error::io(doing))?;
        let size = file.metadata().map_err(Error::io(doing))?.len();
        if size == 0 {
            return Ok(WriteLog { path: path.to_owned(), entries: Vec::new(), counted: 0 });
        }
        let (entries, counted) = parse(&mut file, size).map_err(Error::io(doing))?;
        Ok(WriteLog { path: path.to_owned(), entries, counted })
    }

    /// The number of writes, flushes and discards.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of entries up to the last flush. A power cut loses the others.
    pub fn flushed(&self) -> usize {
        self.counted
    }

    /// For each flush, the number of entries up to it.
    pub fn flushes(&self) -> impl Iterator<Item = usize> + '_ {
        self.entries
            .iter()
            .enumerate()
            .filter(|(_, entry)| entry.flags & FLUSH != 0)
            .map(|(number, _)| number + 1)
    }

    /// Makes `to` a copy of the raw disk `base` with the first `count` entries written to it.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn rebuild(&self, base: &Path, count: usize, to: &Path) -> Result<()> {
        Tool::new("cp").args(["--sparse=always", "--reflink=auto"]).arg(base).arg(to).run()?;
        let doing = || format!("writing {} to {}", self.path.display(), to.display());
        let mut log = File::open(&self.path).map_err(Error::io(doing))?;
        let mut disk = File::options().write(true).open(to).map_err(Error::io(doing))?;
        // The content after a discard is undefined. Keeping the old bytes is the hardest test.
        for entry in
            self.entries.iter().take(count).filter(|entry| entry.flags & (DISCARD | MARK) == 0)
        {
            apply(&mut log, &mut disk, entry).map_err(Error::io(doing))?;
        }
        Ok(())
    }
}

fn apply(log: &mut File, disk: &mut File, entry: &Entry) -> std::io::Result<()> {
    let mut data = vec![0; usize::try_from(entry.length).map_err(std::io::Error::other)?];
    log.seek(SeekFrom::Start(entry.data))?;
    log.read_exact(&mut data)?;
    disk.seek(SeekFrom::Start(entry.at))?;
    disk.write_all(&data)
}

/// The entries of a log of `size` bytes, and the number that the super block counts. Complete
/// entries after those are included. The log ends with zeros.
fn parse(log: &mut (impl Read + Seek), size: u64) -> std::io::Result<(Vec<Entry>, usize)> {
    let wrong = |what: String| std::io::Error::other(what);
    let mut head = [0; 28];
    log.seek(SeekFrom::Start(0))?;
    log.read_exact(&mut head)?;
    let (sector, counted) = match (word(&head, 0), word(&head, 8)) {
        (MAGIC, 1) => (
            u64::from(u32::from_le_bytes([head[24], head[25], head[26], head[27]])),
            word(&head, 16),
        ),
        // QEMU writes the super block with the first flush.
        (0, 0) => (512, 0),
        (magic, version) => {
            return Err(wrong(format!("not a write log: magic {magic:#x}, version {version}")));
        }
    };
    if !sector.is_power_of_two() || !(512..=1 << 20).contains(&sector) {
        return Err(wrong(format!("the sector size is {sector} bytes")));
    }
    let mut entries = Vec::new();
    let mut at = sector;
    while at.checked_add(sector).is_some_and(|end| end <= size) {
        let mut head = [0; 32];
        log.seek(SeekFrom::Start(at))?;
        log.read_exact(&mut head)?;
        let (place, count, flags, extra) =
            (word(&head, 0), word(&head, 8), word(&head, 16), word(&head, 24));
        if count == 0 && flags == 0 {
            break;
        }
        if flags & !KNOWN != 0 {
            return Err(wrong(format!("entry {} has unknown flags {flags:#x}", entries.len())));
        }
        let bytes = |sectors: u64| {
            sectors
                .checked_mul(sector)
                .ok_or_else(|| wrong(format!("an entry has {sectors} sectors")))
        };
        let (place, length) = (bytes(place)?, bytes(count)?);
        let data = at + sector;
        let stored = if flags & DISCARD != 0 {
            0
        } else {
            length.saturating_add(extra.next_multiple_of(sector))
        };
        match data.checked_add(stored) {
            Some(end) if end <= size => at = end,
            _ => break,
        }
        entries.push(Entry { at: place, length, flags, data });
    }
    match usize::try_from(counted) {
        Ok(counted) if counted <= entries.len() => Ok((entries, counted)),
        _ => Err(wrong(format!(
            "the super block counts {counted} entries, but the log has {}",
            entries.len()
        ))),
    }
}

fn word(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;
    use std::process::{Command, Stdio};

    fn sector(words: &[u64]) -> Vec<u8> {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes.resize(512, 0);
        bytes
    }

    /// A write of two sectors at 16, a flush, a discard, a write that was not flushed.
    fn log() -> Vec<u8> {
        [
            sector(&[MAGIC, 1, 2, 512]),
            sector(&[16, 2, 0, 0]),
            vec![0xaa; 1024],
            sector(&[0, 0, FLUSH, 0]),
            sector(&[100, 50, DISCARD, 0]),
            sector(&[16, 1, 0, 0]),
            vec![0xbb; 512],
        ]
        .concat()
    }

    fn read(bytes: &[u8]) -> std::io::Result<(Vec<Entry>, usize)> {
        parse(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn an_entry_is_found_after_the_data_of_the_one_before() {
        let (entries, counted) = read(&log()).unwrap();
        assert_eq!(counted, 2);
        assert_eq!(entries[0], Entry { at: 16 * 512, length: 1024, flags: 0, data: 1024 });
        assert_eq!(entries[1].flags, FLUSH);
        assert_eq!((entries[3].at, entries[3].data), (16 * 512, 512 * 7));
    }

    #[test]
    fn a_truncated_log_causes_no_panic() {
        let log = log();
        for length in 28..log.len() {
            if let Ok((entries, _)) = read(&log[..length]) {
                assert!(entries.len() <= 4);
            }
        }
        let mut wild = log.clone();
        wild[512..544].fill(0xff);
        assert!(read(&wild).is_err());
        wild[528..536].fill(0);
        assert!(read(&wild).is_err());
    }

    #[test]
    fn a_rebuilt_disk_has_what_was_flushed() {
        let directory = tempfile::tempdir().unwrap();
        let [base, path, to] = ["base", "log", "to"].map(|name| directory.path().join(name));
        std::fs::write(&base, vec![0x11; 64 << 10]).unwrap();
        std::fs::write(&path, log()).unwrap();
        let log = WriteLog::open(&path).unwrap();
        assert_eq!((log.len(), log.flushed(), log.flushes().collect::<Vec<_>>()), (4, 2, vec![2]));
        log.rebuild(&base, log.flushed(), &to).unwrap();
        let mut expected = vec![0x11; 64 << 10];
        expected[16 * 512..18 * 512].fill(0xaa);
        assert_eq!(std::fs::read(&to).unwrap(), expected);
        log.rebuild(&base, log.len(), &to).unwrap();
        expected[16 * 512..17 * 512].fill(0xbb);
        assert_eq!(std::fs::read(&to).unwrap(), expected);
    }

    /// A log that QEMU itself writes, through the `qemu-io` command of its monitor.
    #[test]
    fn a_log_of_qemu_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let [base, disk, path, to] =
            ["base", "disk", "log", "to"].map(|name| directory.path().join(name));
        std::fs::write(&base, vec![0; 1 << 20]).unwrap();
        std::fs::copy(&base, &disk).unwrap();
        std::fs::write(&path, b"").unwrap();
        let node = format!(
            "driver=blklogwrites,node-name=n,file.driver=file,file.filename={},log.driver=file,\
            log.filename={},log-append=on",
            disk.display(),
            path.display()
        );
        let mut child = Command::new("qemu-system-x86_64")
            .args([
                "-machine",
                "none",
                "-nodefaults",
                "-display",
                "none",
                "-qmp",
                "stdio",
                "-blockdev",
                &node,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut commands = "{\"execute\":\"qmp_capabilities\"}\n".to_owned();
        for line in
            ["write -P 1 4096 8192", "flush", "write -P 2 65536 512", "write -z 8192 512", "flush"]
        {
            let line = format!("qemu-io n \\\"{line}\\\"");
            commands += &format!(
                "{{\"execute\":\"human-monitor-command\",\
                \"arguments\":{{\"command-line\":\"{line}\"}}}}\n"
            );
        }
        commands += "{\"execute\":\"quit\"}\n";
        child.stdin.take().unwrap().write_all(commands.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let log = WriteLog::open(&path).unwrap();
        let first = log
            .flushes()
            .next()
            .unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stdout)));
        log.rebuild(&base, first, &to).unwrap();
        let mut expected = vec![0; 1 << 20];
        expected[4096..12288].fill(1);
        assert!(std::fs::read(&to).unwrap() == expected, "the first flush");
        log.rebuild(&base, log.flushed(), &to).unwrap();
        assert!(std::fs::read(&to).unwrap() == std::fs::read(&disk).unwrap(), "all of it");
    }
}
