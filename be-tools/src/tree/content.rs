//! The content of a file: shared where the file system can, copied by the kernel where it will,
//! read and written otherwise. Holes stay holes, written zeros stay written, preallocated space
//! stays preallocated.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, SeekFrom, Stat};
use rustix::io::Errno;

mod same;
mod segments;

use crate::sys;
use same::is_same;
use segments::{CHUNK, Failure, UNWRITTEN, segments};

/// Files up to this size are read ahead as a whole; larger ones are kept this far ahead of the
/// reader.
pub const AHEAD: u64 = 4 * 1024 * 1024;

/// What the two file systems can do for each other: learned from the first refusal.
#[derive(Debug, Default)]
pub struct Abilities {
    no_clone: AtomicBool,
    no_copy_range: AtomicBool,
}

/// Copies contents; one a thread.
pub struct Content<'a> {
    abilities: &'a Abilities,
    stop: &'a dyn Fn() -> bool,
    moved: &'a dyn Fn(u64),
    buffer: Vec<u8>,
    compared: (Vec<u8>, Vec<u8>),
}

impl<'a> Content<'a> {
    /// `moved` hears of every chunk, `stop` is asked before every chunk.
    pub fn new(
        abilities: &'a Abilities,
        stop: &'a dyn Fn() -> bool,
        moved: &'a dyn Fn(u64),
    ) -> Self {
        Content {
            abilities,
            stop,
            moved,
            buffer: vec![0; CHUNK],
            compared: (Vec::new(), Vec::new()),
        }
    }

    /// Fills the empty file `target`.
    pub fn copy(&mut self, source: &OwnedFd, target: &OwnedFd, stat: &Stat) -> Result<(), Failure> {
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        if size == 0 && allocated == 0 {
            return Ok(());
        }
        if self.clone(source, target)? {
            (self.moved)(size);
            return Ok(());
        }
        // What is allocated and not written counts as a hole.
        let whole = rustix::fs::seek(source, SeekFrom::Hole(0)).is_ok_and(|hole| hole >= size);
        // More is an extended attribute's block, or preallocation beyond the end.
        let exact = allocated <= size.next_multiple_of(4096);
        if whole && exact && size <= CHUNK as u64 {
            return self.range(source, target, 0, size);
        }
        if !whole || !exact {
            preallocate(source, target, size)?;
        }
        let mut end = 0;
        for (from, to) in segments(source, size) {
            self.range(source, target, from, to)?;
            end = to;
        }
        if end < size {
            rustix::fs::ftruncate(target, size).map_err(Failure::Write)?;
        }
        Ok(())
    }

    /// Whether a file of the target, of the same size, holds the same.
    pub fn is_same(
        &mut self,
        source: (&OwnedFd, &Stat),
        target: (&OwnedFd, &Stat),
    ) -> Result<bool, Failure> {
        is_same(source, target, &mut self.compared, &|| !(self.stop)())
    }

    /// FICLONE: the whole file in one call. False: not here.
    fn clone(&self, source: &OwnedFd, target: &OwnedFd) -> Result<bool, Failure> {
        if self.abilities.no_clone.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match rustix::fs::ioctl_ficlone(target, source) {
            Ok(()) => Ok(true),
            Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS) => {
                self.abilities.no_clone.store(true, Ordering::Relaxed);
                Ok(false)
            }
            Err(why @ (Errno::NOSPC | Errno::DQUOT)) => Err(Failure::Write(why)),
            // This file only: one of the two is not copy-on-write, for example.
            Err(_) => Ok(false),
        }
    }

    fn range(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        from: u64,
        to: u64,
    ) -> Result<(), Failure> {
        let mut at = from;
        let mut ahead = from + AHEAD;
        while at < to {
            if (self.stop)() {
                return Err(Failure::Stopped);
            }
            if to > ahead && at + AHEAD > ahead {
                read_ahead(source, ahead, AHEAD);
                ahead += AHEAD;
            }
            let length = usize::try_from(to - at).unwrap_or(CHUNK).min(CHUNK);
            let moved = match self.kernel(source, target, at, length) {
                Some(moved) => moved,
                None => self.chunk(source, target, at, length)?,
            };
            if moved == 0 {
                // It has become shorter; the second look at its size says so.
                return Ok(());
            }
            at += moved;
            (self.moved)(moved);
        }
        Ok(())
    }

    /// copy_file_range(2). `None`: not here, or it failed and reading will say why.
    fn kernel(&self, source: &OwnedFd, target: &OwnedFd, at: u64, length: usize) -> Option<u64> {
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

    fn chunk(
        &mut self,
        source: &OwnedFd,
        target: &OwnedFd,
        at: u64,
        length: usize,
    ) -> Result<u64, Failure> {
        let read = loop {
            match rustix::io::pread(source, &mut self.buffer[..length], at) {
                Err(Errno::INTR) => {}
                other => break other.map_err(Failure::Read)?,
            }
        };
        let mut written = 0;
        while written < read {
            match rustix::io::pwrite(target, &self.buffer[written..read], at + written as u64) {
                Ok(0) => return Err(Failure::Write(Errno::NOSPC)),
                Ok(n) => written += n,
                Err(Errno::INTR) => {}
                Err(why) => return Err(Failure::Write(why)),
            }
        }
        Ok(read as u64)
    }
}

/// Tells the kernel what will be read soon.
pub fn read_ahead(file: impl AsFd, offset: u64, length: u64) {
    // A hint: where it is refused, reading waits instead.
    let _ = rustix::fs::fadvise(file, offset, std::num::NonZeroU64::new(length), Advice::WillNeed);
}

/// Allocates in the target what is allocated and not written in the source, beyond its end too.
fn preallocate(source: &OwnedFd, target: &OwnedFd, size: u64) -> Result<(), Failure> {
    let mut start = 0;
    loop {
        // A file system that cannot tell has nothing to keep.
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
                // It cannot preallocate: zeros beyond the end are no content, those within it will
                // read the same.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                // Space set aside for nothing must not fill a smaller target.
                Err(Errno::NOSPC) if extent.logical >= size => {}
                Err(why) => return Err(Failure::Write(why)),
            }
        }
    }
}
