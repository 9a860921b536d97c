//! Where a file has data and where it has holes (lseek(2)), and how copying it can fail.

use std::ops::Range;
use std::os::fd::OwnedFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use crate::tree::entry_error::EntryError;

/// Bytes moved at a time: what fits into a processor's cache.
pub const CHUNK: usize = 256 * 1024;

/// FIEMAP_EXTENT_UNWRITTEN: allocated but not written, reads as zeros.
pub const UNWRITTEN: u32 = 0x0000_0800;

/// Why copying a file's content stopped.
#[derive(Debug)]
pub enum ContentError {
    /// The source could not be read.
    Read(Errno),
    /// The target could not be written.
    Write(Errno),
    /// The copy is being stopped.
    Stopped,
}

impl From<ContentError> for EntryError {
    fn from(failure: ContentError) -> Self {
        match failure {
            ContentError::Read(why) => EntryError::Source(why),
            // This concerns the file, not the target: others can still be copied.
            ContentError::Write(Errno::FBIG) => EntryError::Lost(
                "it is larger than any file that the target's file system can hold: choose another \
                type for that, such as xfs, or leave it out with --exclude",
            ),
            ContentError::Write(why) => EntryError::Target("writing", why),
            ContentError::Stopped => EntryError::Stopped,
        }
    }
}

/// The ranges of a file that hold data.
pub fn segments(file: &OwnedFd, size: u64) -> impl Iterator<Item = Range<u64>> {
    Segments { file, at: 0, size }
}

struct Segments<'a> {
    file: &'a OwnedFd,
    at: u64,
    size: u64,
}

impl Iterator for Segments<'_> {
    type Item = Range<u64>;

    fn next(&mut self) -> Option<Range<u64>> {
        if self.at >= self.size {
            return None;
        }
        let from = match rustix::fs::seek(self.file, SeekFrom::Data(self.at)) {
            Ok(from) => from,
            Err(Errno::NXIO) => return None,
            // A file system without SEEK_DATA: the whole file is data.
            Err(_) => self.at,
        };
        let to = match rustix::fs::seek(self.file, SeekFrom::Hole(from)) {
            Ok(to) => to.min(self.size),
            Err(_) => self.size,
        };
        self.at = to;
        (from < to).then_some(from..to)
    }
}
