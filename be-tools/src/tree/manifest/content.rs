//! The content of the entries of a directory.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, SeekFrom, Stat, fadvise, fstat, seek};
use rustix::io::Errno;

use crate::plan::go_on;
use crate::tree::listing::open_file;

/// How much is read at a time, in bytes. The hashes of sparse files depend on it.
const PIECE: usize = 64 * 1024;

/// How much of a file has to be holes for its hash to leave them out, in bytes. It takes long to read
/// holes, and a /var/log/lastlog may have a terabyte of them.
const SPARSE: u64 = 16 << 20;

/// The hash of the content of a file, BLAKE3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    /// Of all of it.
    Whole([u8; 32]),
    /// Of the pieces of 64 KiB that are not all zeros, each after its place as eight bytes, the
    /// lowest first.
    Sparse([u8; 32]),
}

/// What of a file is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HashKind {
    Whole,
    Sparse,
}

/// From where a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Wherever the kernel has it.
    Anywhere,
    /// The disk, as far as no program has it mapped and nothing waits to be written to it.
    Disk,
}

/// How a file is read.
pub(super) struct Reader<'a> {
    pub(super) from: From,
    pub(super) buffer: Vec<u8>,
    /// Called with the bytes that were read.
    pub(super) read: &'a dyn Fn(u64),
}

impl Hash {
    /// That of an empty file.
    pub(super) fn empty() -> Self {
        Hash::Whole(*blake3::hash(&[]).as_bytes())
    }

    pub(super) fn kind(self) -> HashKind {
        match self {
            Hash::Whole(_) => HashKind::Whole,
            Hash::Sparse(_) => HashKind::Sparse,
        }
    }
}

impl HashKind {
    /// What is hashed of a file in this state.
    pub(super) fn of(stat: &Stat) -> Self {
        let allocated = u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        if size.saturating_sub(allocated) >= SPARSE { HashKind::Sparse } else { HashKind::Whole }
    }

    /// Hashes an open file; `None` if it was interrupted.
    ///
    /// # Errors
    /// As read(2).
    pub(super) fn hash(self, file: &File, reader: &mut Reader<'_>) -> Result<Option<Hash>, Errno> {
        reader.buffer.resize(PIECE, 0);
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        loop {
            if go_on().is_err() {
                return Ok(None);
            }
            if self == HashKind::Sparse {
                // A file system that knows of no holes has none.
                match seek(file, SeekFrom::Data(at)) {
                    Ok(data) => at = data / PIECE as u64 * PIECE as u64,
                    Err(Errno::NXIO) => break,
                    Err(_) => {}
                }
            }
            let length = fill(file, at, &mut reader.buffer)?;
            let piece = &reader.buffer[..length];
            match self {
                HashKind::Whole => {
                    hasher.update(piece);
                }
                HashKind::Sparse if piece.iter().any(|byte| *byte != 0) => {
                    hasher.update(&at.to_le_bytes()).update(piece);
                }
                HashKind::Sparse => {}
            }
            (reader.read)(length as u64);
            at += length as u64;
            if length < PIECE {
                break;
            }
        }
        let hash = *hasher.finalize().as_bytes();
        Ok(Some(match self {
            HashKind::Whole => Hash::Whole(hash),
            HashKind::Sparse => Hash::Sparse(hash),
        }))
    }
}

/// Hashes a file. Returns its state after that, too; `None` if it was interrupted.
///
/// # Errors
/// As open(2) and read(2).
pub(super) fn hash(
    directory: &OwnedFd,
    name: &CStr,
    kind: HashKind,
    reader: &mut Reader<'_>,
) -> Result<Option<(Hash, Stat)>, Errno> {
    let file = open_file(directory, name)?;
    if reader.from == From::Disk {
        // Only a hint: what the kernel keeps nevertheless is read from memory.
        let _ = fadvise(&file, 0, None, Advice::DontNeed);
    }
    let Some(hash) = kind.hash(&file, reader)? else { return Ok(None) };
    Ok(Some((hash, fstat(&file)?)))
}

/// Reads until the buffer is full or the file ends. Returns the number of bytes.
fn fill(file: &File, at: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read_at(&mut buffer[length..], at + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(why) if why.kind() == std::io::ErrorKind::Interrupted => {}
            Err(why) => return Err(Errno::from_io_error(&why).unwrap_or(Errno::IO)),
        }
    }
    Ok(length)
}

/// The target of a symlink.
pub(super) fn target(directory: &OwnedFd, name: &CStr) -> Result<Box<[u8]>, Errno> {
    let target = rustix::fs::readlinkat(directory, name, Vec::new())?;
    Ok(target.into_bytes().into())
}
