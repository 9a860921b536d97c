//! Where a file has data and where it has holes (lseek(2)), and how copying it can fail.

use std::os::fd::OwnedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::tree::entry_error::EntryError;

/// Bytes moved at once: what fits into a processor's cache.
pub const CHUNK: usize = 256 * 1024;

/// FIEMAP_EXTENT_UNWRITTEN: allocated, and reads as zeros.
pub const UNWRITTEN: u32 = 0x0000_0800;

/// Errors of writing, apart from errors of reading.
#[derive(Debug)]
pub enum Failure {
    /// The source could not be read.
    Read(Errno),
    /// The target could not be written.
    Write(Errno),
    /// Somebody wants the copy to stop.
    Stopped,
}

impl From<Failure> for EntryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Read(why) => EntryError::Source(why),
            Failure::Write(why) => EntryError::Target("writing", why),
            Failure::Stopped => EntryError::Stopped,
        }
    }
}

/// Where a file has content: from, to.
pub fn segments(file: &OwnedFd, size: u64) -> impl Iterator<Item = (u64, u64)> {
    Segments { file, at: 0, size }
}

struct Segments<'a> {
    file: &'a OwnedFd,
    at: u64,
    size: u64,
}

impl Iterator for Segments<'_> {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        if self.at >= self.size {
            return None;
        }
        let from = match rustix::fs::seek(self.file, SeekFrom::Data(self.at)) {
            Ok(from) => from,
            Err(Errno::NXIO) => return None,
            // No such question on this file system: all of it is content.
            Err(_) => self.at,
        };
        let to = match rustix::fs::seek(self.file, SeekFrom::Hole(from)) {
            Ok(to) => to.min(self.size),
            Err(_) => self.size,
        };
        self.at = to;
        (from < to).then_some((from, to))
    }
}
