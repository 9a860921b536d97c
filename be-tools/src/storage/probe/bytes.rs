//! Checked access to the bytes of a device.

use std::borrow::Cow;
use std::io;

use super::fs_uuid::FsUuid;
use super::source::Source;

/// The bytes that are read at once. They include every super block at the start of a device, up to
/// that of btrfs.
const HEAD: u64 = 68 << 10;

/// A device whose first bytes have been read.
pub struct Image<'a> {
    source: &'a dyn Source,
    head: Vec<u8>,
}

impl<'a> Image<'a> {
    pub(crate) fn new(source: &'a dyn Source) -> io::Result<Self> {
        let mut head = vec![0; source.len().min(HEAD) as usize];
        source.read_at(0, &mut head)?;
        Ok(Image { source, head })
    }

    pub(crate) fn len(&self) -> u64 {
        self.source.len()
    }

    /// `len` bytes from `offset`; `None` beyond the end, or if they cannot be read.
    pub(crate) fn at(&self, offset: u64, len: usize) -> Option<Block<'_>> {
        let end = offset.checked_add(len as u64)?;
        if end <= self.head.len() as u64 {
            return Some(Block(Cow::Borrowed(self.head.get(offset as usize..end as usize)?)));
        }
        if end > self.source.len() {
            return None;
        }
        let mut bytes = vec![0; len];
        self.source.read_at(offset, &mut bytes).ok()?;
        Some(Block(Cow::Owned(bytes)))
    }
}

/// Some bytes of a device.
pub(crate) struct Block<'a>(pub(crate) Cow<'a, [u8]>);

impl Block<'_> {
    pub(crate) fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        self.0.get(offset..offset.checked_add(len)?)
    }

    pub(crate) fn has(&self, offset: usize, magic: &[u8]) -> bool {
        self.slice(offset, magic.len()) == Some(magic)
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.slice(offset, N)?.try_into().ok()
    }

    pub(crate) fn u8(&self, offset: usize) -> Option<u8> {
        self.0.get(offset).copied()
    }
    pub(crate) fn le16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_le_bytes)
    }
    pub(crate) fn le32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }
    pub(crate) fn le64(&self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_le_bytes)
    }
    pub(crate) fn be16(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_be_bytes)
    }
    pub(crate) fn be32(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_be_bytes)
    }
    pub(crate) fn be64(&self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_be_bytes)
    }

    /// A UUID of sixteen bytes in their order, as in most file systems; empty if all are zero.
    pub(crate) fn uuid(&self, offset: usize) -> Option<FsUuid> {
        let bytes = self.array::<16>(offset)?;
        Some(if bytes == [0; 16] {
            FsUuid::default()
        } else {
            FsUuid::parse(&uuid::Uuid::from_bytes(bytes).to_string())
        })
    }

    /// The text in a field of fixed length, up to its first NUL.
    pub(crate) fn text(&self, offset: usize, len: usize) -> Option<String> {
        self.slice(offset, len).map(clean_text)
    }
}

/// Text up to the first NUL, without trailing blanks, control characters replaced.
pub(crate) fn clean_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    text.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
