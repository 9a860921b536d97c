//! Compares two files, byte for byte and hole for hole.

use std::os::fd::OwnedFd;

use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

use super::segments::{CHUNK, ContentError, UNWRITTEN, segments};
use crate::sys;

/// How many bytes the sizes of holes may differ. Where holes begin and end depends on the block
/// size of the file system.
const SLACK: u64 = 64 * 1024;

/// An open file and its inode.
#[derive(Clone, Copy, Debug)]
pub struct OpenFile<'a> {
    /// The open file.
    pub fd: &'a OwnedFd,
    /// What fstat(2) said of it.
    pub stat: &'a Stat,
}

/// Compares a source file with a target file of the same size. Calls `go_on` before every chunk. A
/// target that cannot be read counts as different.
///
/// # Errors
/// When the source cannot be read, or `go_on` returns false.
pub fn is_same(
    OpenFile { fd: source, stat: ours }: OpenFile<'_>,
    OpenFile { fd: target, stat: theirs }: OpenFile<'_>,
    [a, b]: &mut [Vec<u8>; 2],
    go_on: &dyn Fn() -> bool,
) -> Result<bool, ContentError> {
    let size = u64::try_from(ours.st_size).unwrap_or(0);
    if ours.st_blocks != theirs.st_blocks && !is_laid_out_alike(source, target, size) {
        return Ok(false);
    }
    a.resize(CHUNK, 0);
    b.resize(CHUNK, 0);
    let mut at = 0;
    while at < size {
        if !go_on() {
            return Err(ContentError::Stopped);
        }
        // A hole in both files need not be read.
        at = data_from(source, at, size).min(data_from(target, at, size));
        let length = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        let read = fill(source, &mut a[..length], at).map_err(ContentError::Read)?;
        match fill(target, &mut b[..length], at) {
            Ok(there) if a[..read] == b[..there] => {}
            _ => return Ok(false),
        }
        if read < length {
            // The source was truncated meanwhile.
            return Ok(false);
        }
        at += read as u64;
    }
    Ok(true)
}

fn data_from(file: &OwnedFd, at: u64, size: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(from) => from.min(size),
        Err(Errno::NXIO) => size,
        Err(_) => at,
    }
}

fn fill(file: &OwnedFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(Errno::INTR) => {}
            Err(why) => return Err(why),
        }
    }
    Ok(filled)
}

/// Whether both files have about as many bytes of data, and of space allocated but not written.
fn is_laid_out_alike(source: &OwnedFd, target: &OwnedFd, size: u64) -> bool {
    let data = |file| segments(file, size).map(|segment| segment.end - segment.start).sum::<u64>();
    let alike = |a: u64, b: u64| a.abs_diff(b) <= SLACK;
    alike(data(source), data(target)) && alike(unwritten(source), unwritten(target))
}

fn unwritten(file: &OwnedFd) -> u64 {
    let (mut sum, mut start) = (0, 0);
    // A file system without FIEMAP has no preallocation to keep.
    while let Ok(extents) = sys::extents(file, start, u64::MAX - start) {
        let Some(last) = extents.last() else { break };
        start = last.logical + last.length;
        sum += extents.iter().filter(|e| e.flags & UNWRITTEN != 0).map(|e| e.length).sum::<u64>();
    }
    sum
}
