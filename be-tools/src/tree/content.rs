//! Copies the content of a file: by reflink where the file system supports that, else with
//! copy_file_range(2), else by reading and writing. Holes stay holes, written zeros stay written,
//! preallocated space stays preallocated.

use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, SeekFrom, Stat};
use rustix::io::Errno;

mod same;
mod segments;

use crate::sys;
use same::is_same;
use segments::{CHUNK, UNWRITTEN, segments};

pub use same::OpenFile;
pub use segments::ContentError;

/// Files up to this size are read ahead whole; in larger ones, read-ahead stays this far ahead of
/// the reader.
pub const AHEAD: u64 = 4 * 1024 * 1024;

/// Which ways of copying do not work between the two file systems, learned from the first refusal.
#[derive(Debug, Default)]
pub struct Abilities {
    no_clone: AtomicBool,
    no_copy_range: AtomicBool,
}

/// Copies the contents of files. Each thread has its own.
pub struct ContentCopier<'a> {
    abilities: &'a Abilities,
    stop: &'a dyn Fn() -> bool,
    moved: &'a dyn Fn(u64),
    buffer: Vec<u8>,
    compare_buffers: [Vec<u8>; 2],
}

impl<'a> ContentCopier<'a> {
    /// Calls `stop` before every chunk and `moved` after it.
    pub fn new(
        abilities: &'a Abilities,
        stop: &'a dyn Fn() -> bool,
        moved: &'a dyn Fn(u64),
    ) -> Self {
        ContentCopier {
            abilities,
            stop,
            moved,
            buffer: vec![0; CHUNK],
            compare_buffers: Default::default(),
        }
    }

    /// Fills the empty file `target`.
    pub fn copy(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        stat: &Stat,
    ) -> Result<(), ContentError> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if size == 0 && allocated == 0 {
            return Ok(());
        }
        if self.clone(source, target)? {
            (self.moved)(size);
            return Ok(());
        }
        // SEEK_HOLE reports space that is allocated but not written as a hole.
        let whole = rustix::fs::seek(source, SeekFrom::Hole(0)).is_ok_and(|hole| hole >= size);
        // A file with more blocks has an extended attribute's block, or preallocation beyond its
        // end.
        let exact = allocated <= size.next_multiple_of(4096);
        if whole && exact && size <= CHUNK as u64 {
            return self.copy_range(source, target, 0..size);
        }
        if !whole || !exact {
            preallocate(source, target, size)?;
        }
        let mut end = 0;
        for segment in segments(source, size) {
            end = segment.end;
            self.copy_range(source, target, segment)?;
        }
        if end < size {
            rustix::fs::ftruncate(target, size).map_err(ContentError::Write)?;
        }
        Ok(())
    }

    /// Whether the content of a target file of the same size is equal.
    pub fn is_same(
        &mut self,
        source: OpenFile<'_>,
        target: OpenFile<'_>,
    ) -> Result<bool, ContentError> {
        is_same(source, target, &mut self.compare_buffers, &|| !(self.stop)())
    }

    /// Clones the whole file with FICLONE. Returns false if that is not possible.
    fn clone(&self, source: &OwnedFd, target: &OwnedFd) -> Result<bool, ContentError> {
        if self.abilities.no_clone.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(target, source) {
            Ok(()) => Ok(true),
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => {
                self.abilities.no_clone.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(why @ (Errno::NOSPC | Errno::DQUOT)) => Err(ContentError::Write(why)),
            // The refusal may concern only this file: one of the two may be NOCOW, for example.
            Err(_) => Ok(false),
        }
    }

    fn copy_range(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        Range { start, end }: Range<u64>,
    ) -> Result<(), ContentError> {
        let mut at = start;
        let mut ahead = start + AHEAD;
        while at < end {
            if (self.stop)() {
                return Err(ContentError::Stopped);
            }
            if end > ahead && at + AHEAD > ahead {
                read_ahead(source, ahead, AHEAD);
                ahead += AHEAD;
            }
            let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let moved = match self.copy_file_range(source, target, at, length) {
                Some(moved) => moved,
                None => self.read_and_write(source, target, at, length)?,
            };
            if moved == 0 {
                // The file was truncated meanwhile. The caller compares its size afterwards and
                // notices.
                return Ok(());
            }
            at += moved;
            (self.moved)(moved);
        }
        Ok(())
    }

    /// Copies with copy_file_range(2). Returns `None` if that is not possible, or failed: reading
    /// then finds the reason.
    fn copy_file_range(
        &self,
        source: &OwnedFd,
        target: &OwnedFd,
        at: u64,
        length: usize,
    ) -> Option<u64> {
        if self.abilities.no_copy_range.load(Ordering::Relaxed) {
            return None;
        }
        let (mut from, mut to) = (at, at);
        match rustix::fs::copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
            Ok(0) => None,
            Ok(moved) => Some(moved as u64),
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                self.abilities.no_copy_range.store(true, Ordering::Relaxed);
                None
            }
            Err(_) => None,
        }
    }

    fn read_and_write(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        at: u64,
        length: usize,
    ) -> Result<u64, ContentError> {
        let read = loop {
            match rustix::io::pread(source, &mut self.buffer[..length], at) {
                Err(Errno::INTR) => {}
                other => break other.map_err(ContentError::Read)?,
            }
        };
        let mut written = 0;
        while written < read {
            match rustix::io::pwrite(target, &self.buffer[written..read], at + written as u64) {
                Ok(0) => return Err(ContentError::Write(Errno::NOSPC)),
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(why) => return Err(ContentError::Write(why)),
            }
        }
        Ok(read as u64)
    }
}

/// Tells the kernel what will be read soon.
pub fn read_ahead(file: impl AsFd, offset: u64, length: u64) {
    // Only a hint: if it is refused, reading waits for the disk.
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(length), Advice::WillNeed);
}

/// Allocates in the target what is allocated but not written in the source, also beyond its end.
fn preallocate(source: &OwnedFd, target: &OwnedFd, size: u64) -> Result<(), ContentError> {
    let mut start = 0;
    loop {
        // A file system without FIEMAP has no preallocation to keep.
        let Ok(extents) = sys::extents(source, start, u64::MAX - start) else { return Ok(()) };
        let Some(last) = extents.last() else { return Ok(()) };
        start = last.logical + last.length;
        for extent in extents.iter().filter(|e| e.flags & UNWRITTEN != 0) {
            match rustix::fs::fallocate(
                target,
                FallocateFlags::KEEP_SIZE,
                extent.logical,
                extent.length,
            ) {
                Ok(()) => {}
                // The target cannot preallocate. That changes no content: what lies beyond the end
                // is not part of the file, and what lies within it reads as zeros either way.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                // Preallocation beyond the end must not make a copy to a smaller device fail.
                Err(Errno::NOSPC) if extent.logical >= size => {}
                Err(why) => return Err(ContentError::Write(why)),
            }
        }
    }
}
