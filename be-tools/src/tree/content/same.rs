//! Whether two files hold the same, byte for byte and hole for hole.

use std::os::fd::OwnedFd;

use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

use super::segments::{CHUNK, Failure, UNWRITTEN, segments};
use crate::sys;

/// Where holes begin and end depends on the block size: so many bytes more or less are no
/// difference.
const SLACK: u64 = 64 * 1024;

/// Compares a file of the source with one of the same size in the target. `go_on` hears of every
/// chunk. What cannot be read in the target is not the same.
///
/// # Errors
/// The source cannot be read, or `go_on` says no.
pub fn is_same(
    (source, ours): (&OwnedFd, &Stat),
    (target, theirs): (&OwnedFd, &Stat),
    buffers: &mut (Vec<u8>, Vec<u8>),
    go_on: &dyn Fn() -> bool,
) -> Result<bool, Failure> {
    let size = u64::try_from(ours.st_size).unwrap_or(0);
    if ours.st_blocks != theirs.st_blocks && !is_laid_out_alike(source, target, size) {
        return Ok(false);
    }
    let (a, b) = buffers;
    a.resize(CHUNK, 0);
    b.resize(CHUNK, 0);
    let mut at = 0;
    while at < size {
        if !go_on() {
            return Err(Failure::Stopped);
        }
        // Holes of both are the same without being read.
        at = data_from(source, at, size).min(data_from(target, at, size));
        let length = usize::try_from(size - at).unwrap_or(CHUNK).min(CHUNK);
        let read = fill(source, &mut a[..length], at).map_err(Failure::Read)?;
        match fill(target, &mut b[..length], at) {
            Ok(there) if a[..read] == b[..there] => {}
            _ => return Ok(false),
        }
        if read < length {
            // It has become shorter meanwhile.
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

/// Both have about as many bytes of content, and as many that are allocated and not written.
fn is_laid_out_alike(source: &OwnedFd, target: &OwnedFd, size: u64) -> bool {
    let content = |file| segments(file, size).map(|(from, to)| to - from).sum::<u64>();
    let alike = |a: u64, b: u64| a.abs_diff(b) <= SLACK;
    alike(content(source), content(target)) && alike(unwritten(source), unwritten(target))
}

fn unwritten(file: &OwnedFd) -> u64 {
    let (mut sum, mut start) = (0, 0);
    // A file system that cannot tell has nothing to keep.
    while let Ok(extents) = sys::extents(file, start, u64::MAX - start) {
        let Some(last) = extents.last() else { break };
        start = last.logical + last.length;
        sum += extents.iter().filter(|e| e.flags & UNWRITTEN != 0).map(|e| e.length).sum::<u64>();
    }
    sum
}
