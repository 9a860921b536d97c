//! A block device that is read and written with O_DIRECT, so that stale pages are not read, and the
//! page cache keeps what the running system needs.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, OFlags};
use rustix::io::Errno;

use super::extents::{ALIGNMENT, rounded_out};
use crate::error::{Doing, Error, Result};
use crate::storage::hold::Hold;
use crate::storage::mkfs;
use crate::storage::probe::{OpenDevice, Source};

/// Memory that is aligned for O_DIRECT.
pub struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// Makes a buffer of `len` zeros.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + ALIGNMENT as usize];
        // If the address cannot be aligned, the kernel refuses the request.
        let start = bytes.as_ptr().align_offset(ALIGNMENT as usize).min(ALIGNMENT as usize);
        Buffer { bytes, start }
    }

    /// The first `len` bytes.
    pub fn get(&self, len: usize) -> &[u8] {
        &self.bytes[self.start..self.start + len]
    }

    /// The first `len` bytes, mutable.
    pub fn get_mut(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + len]
    }
}

/// An open block device.
#[derive(Debug)]
pub struct Device {
    opened: OpenDevice,
    path: PathBuf,
}

impl Device {
    /// Opens a device for reading.
    ///
    /// # Errors
    /// As open(2).
    pub fn source(path: &Path) -> Result<Self> {
        let open =
            |flags: OFlags| File::options().read(true).custom_flags(flags.bits() as i32).open(path);
        let file = match open(OFlags::DIRECT) {
            Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => open(OFlags::empty()),
            opened => opened,
        };
        let opened = file.and_then(OpenDevice::new).at("opening", path)?;
        Ok(Device { opened, path: path.to_owned() })
    }

    /// Opens a held device for writing, exclusively.
    ///
    /// # Errors
    /// Those of [`Hold::exclusive`].
    pub fn target(hold: &Hold) -> Result<Self> {
        Ok(Device { opened: hold.exclusive()?, path: hold.device().node.clone() })
    }

    /// Erases the signatures on the device, and switches to O_DIRECT for everything written after
    /// that.
    ///
    /// # Errors
    /// When the device cannot be written.
    pub fn erase(&self) -> Result<()> {
        mkfs::erase_to_fill(&self.opened, &self.path)?;
        let direct = rustix::fs::fcntl_getfl(&self.opened.file)
            .and_then(|flags| rustix::fs::fcntl_setfl(&self.opened.file, flags | OFlags::DIRECT));
        if let Err(why) = direct {
            log::info!("{} is written through the page cache: {why}", self.path.display());
        }
        Ok(())
    }

    /// The device node.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `bytes` from offset `at`. Both must be aligned.
    ///
    /// # Errors
    /// Which block cannot be read, and what to do about it.
    pub fn read(&self, at: u64, bytes: &mut [u8]) -> Result<()> {
        self.opened.file.read_exact_at(bytes, at).map_err(|error| {
            let step = ALIGNMENT as usize;
            let bad = (0..bytes.len()).step_by(step).find(|offset| {
                let end = bytes.len().min(offset + step);
                self.opened
                    .file
                    .read_exact_at(&mut bytes[*offset..end], at + *offset as u64)
                    .is_err()
            });
            let at = at + bad.unwrap_or(0) as u64;
            Error::Failed(format!(
                "{} cannot be read at byte {at}: {error}; --method copy copies its files and \
                names those that are lost",
                self.path.display()
            ))
        })
    }

    /// Writes `bytes` at offset `at`. Both must be aligned.
    ///
    /// # Errors
    /// As pwrite(2).
    pub fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.opened
            .file
            .write_all_at(bytes, at)
            .doing(|| format!("writing to {} at byte {at}", self.path.display()))
    }

    /// Lets the device write zeros to a range. Returns false if it cannot.
    ///
    /// # Errors
    /// As fallocate(2).
    pub fn zero(&self, range: &Range<u64>) -> Result<bool> {
        let flags = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        match rustix::fs::fallocate(&self.opened.file, flags, range.start, range.end - range.start)
        {
            Ok(()) => Ok(true),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NODEV) => Ok(false),
            Err(why) => Err(why).doing(|| format!("writing zeros to {}", self.path.display())),
        }
    }

    /// Waits until everything that was written is on stable storage.
    ///
    /// # Errors
    /// When the device reports a write error.
    pub fn sync(&self) -> Result<()> {
        self.opened.file.sync_all().at("syncing", &self.path)
    }
}

impl Source for Device {
    fn len(&self) -> u64 {
        self.opened.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64).filter(|end| *end <= self.opened.size);
        let range =
            rounded_out(&(offset..end.ok_or(io::ErrorKind::UnexpectedEof)?), self.opened.size);
        let len = (range.end - range.start) as usize;
        let mut aligned = Buffer::new(len);
        self.opened.file.read_exact_at(aligned.get_mut(len), range.start)?;
        let start = (offset - range.start) as usize;
        buffer.copy_from_slice(&aligned.get(len)[start..start + buffer.len()]);
        Ok(())
    }
}
