//! The sources of the bytes that are probed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Random access to the bytes of a device, a file or a test's buffer.
pub trait Source {
    /// The number of bytes.
    fn len(&self) -> u64;
    /// It has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// The bytes cannot be read, or end before the buffer is full.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = start.checked_add(buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(self.get(start..end).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

/// An open block device and its size.
#[derive(Debug)]
pub struct OpenDevice {
    /// The device, open for reading.
    pub file: File,
    /// Its size in bytes.
    pub size: u64,
}

impl OpenDevice {
    /// A device that is open, with its size now.
    ///
    /// # Errors
    /// As lseek(2).
    pub fn new(file: File) -> io::Result<Self> {
        let size = rustix::fs::seek(&file, rustix::fs::SeekFrom::End(0))?;
        Ok(OpenDevice { file, size })
    }
}

impl Source for OpenDevice {
    fn len(&self) -> u64 {
        self.size
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}
