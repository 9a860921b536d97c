//! Device paths: UEFI 2.10, section 10. Only the nodes that locate a loader on a disk are
//! interpreted; all others are kept byte for byte.

use super::ucs2;
use std::fmt;
use uuid::Uuid;

const END: u8 = 0x7f;
const END_ENTIRE: u8 = 0xff;
const MESSAGING: u8 = 0x03;
const MAC: u8 = 11;
const IPV4: u8 = 12;
const IPV6: u8 = 13;
const URI: u8 = 24;
const MEDIA: u8 = 0x04;
const HARD_DRIVE: u8 = 0x01;
const FILE_PATH: u8 = 0x04;
const HEADER: usize = 4;

/// Why a device path could not be parsed or rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A node's length is shorter than its header or extends past the end.
    #[error(
        "device path node at byte {offset} has length {length}, which is not between {HEADER} and \
        {left}"
    )]
    NodeLength {
        /// Offset of the node.
        offset: usize,
        /// The length that its header claims.
        length: usize,
        /// The bytes that are left from `offset`.
        left: usize,
    },
    /// The last node is not the end of the path.
    #[error("device path has no end node")]
    NoEnd,
    /// A node cannot hold more than 65,531 bytes.
    #[error("device path node of {0} bytes is too long; use a shorter path")]
    TooLong(usize),
    /// A NUL would terminate the file name early.
    #[error("file name {0:?} in a device path contains a NUL")]
    Nul(String),
}

/// How a hard drive node identifies the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signature {
    /// No signature, on a disk with an MBR.
    None,
    /// The disk signature in the MBR.
    Mbr(u32),
    /// The partition's GUID in the GPT (PARTUUID).
    Gpt(Uuid),
}

/// One node of a device path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A partition (section 10.3.5.1).
    HardDrive {
        /// Its number, from 1.
        partition: u32,
        /// First block.
        start_lba: u64,
        /// Length in blocks.
        size_lba: u64,
        /// The partition's or disk's signature.
        signature: Signature,
    },
    /// A file's path, with backslashes (section 10.3.5.4).
    FilePath(String),
    /// Any other node, or one of the above with content that they cannot represent.
    Other {
        /// Type.
        kind: u8,
        /// Sub-type.
        sub_kind: u8,
        /// The bytes after the four-byte header.
        data: Vec<u8>,
    },
}

/// The nodes of a path, without its final end node.
///
/// A load option may hold several paths. The end nodes between them are kept as nodes, so that no
/// bytes are lost.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DevicePath(pub Vec<Node>);

impl DevicePath {
    /// The short form that firmware expands: a GPT partition and a file on it, such as `\EFI\…`.
    pub fn hard_drive_file(
        partition: u32,
        start_lba: u64,
        size_lba: u64,
        partuuid: Uuid,
        file: impl Into<String>,
    ) -> Self {
        Self(vec![
            Node::HardDrive { partition, start_lba, size_lba, signature: Signature::Gpt(partuuid) },
            Node::FilePath(file.into()),
        ])
    }

    /// Parses a whole path list, including its end node.
    ///
    /// # Errors
    /// A node extends past the end, or the end node is missing.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let mut nodes = Vec::new();
        let mut offset = 0;
        while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
            let [kind, sub_kind, low, high, ..] = *rest else {
                return Err(Error::NodeLength { offset, length: HEADER, left: rest.len() });
            };
            let length = usize::from(u16::from_le_bytes([low, high]));
            let data = rest.get(HEADER..length).ok_or(Error::NodeLength {
                offset,
                length,
                left: rest.len(),
            })?;
            nodes.push(Node::parse(kind, sub_kind, data));
            offset += length;
        }
        match nodes.pop() {
            Some(Node::Other { kind: END, sub_kind: END_ENTIRE, data }) if data.is_empty() => {
                Ok(Self(nodes))
            }
            _ => Err(Error::NoEnd),
        }
    }

    /// Renders the path, including its end node.
    ///
    /// # Errors
    /// A node is too long for its length field, or a file name contains a NUL.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        for node in &self.0 {
            node.render(&mut bytes)?;
        }
        bytes.extend([END, END_ENTIRE, 4, 0]);
        Ok(bytes)
    }

    /// The partition that the first path names.
    pub fn hard_drive(&self) -> Option<&Node> {
        self.first().find(|n| matches!(n, Node::HardDrive { .. }))
    }

    /// The PARTUUID that the first path names.
    pub fn partuuid(&self) -> Option<Uuid> {
        match self.hard_drive() {
            Some(Node::HardDrive { signature: Signature::Gpt(uuid), .. }) => Some(*uuid),
            _ => None,
        }
    }

    /// The file that the first path names, such as `\EFI\debian\shimx64.efi`. It may be spread over
    /// several nodes.
    pub fn file(&self) -> Option<String> {
        let mut file: Option<String> = None;
        for node in self.first() {
            let Node::FilePath(part) = node else { continue };
            match &mut file {
                None => file = Some(part.clone()),
                Some(file) => {
                    if !file.ends_with('\\') && !part.starts_with('\\') {
                        file.push('\\');
                    }
                    file.push_str(part);
                }
            }
        }
        file
    }

    /// Whether the first path leads over a network (section 10.3.4): PXE, or a boot over HTTP.
    pub fn is_network(&self) -> bool {
        self.first().any(|node| {
            matches!(node, Node::Other { kind: MESSAGING, sub_kind: MAC | IPV4 | IPV6 | URI, .. })
        })
    }

    fn first(&self) -> impl Iterator<Item = &Node> {
        let ends = |node: &&Node| matches!(node, Node::Other { kind: END, .. });
        self.0.iter().take_while(move |node| !ends(node))
    }
}

impl Node {
    fn parse(kind: u8, sub_kind: u8, data: &[u8]) -> Self {
        let known = match (kind, sub_kind) {
            (MEDIA, HARD_DRIVE) => Self::parse_hard_drive(data),
            (MEDIA, FILE_PATH) => Self::parse_file_path(data),
            _ => None,
        };
        known.unwrap_or_else(|| Self::Other { kind, sub_kind, data: data.to_vec() })
    }

    /// Returns `None` if rendering would not give the same bytes.
    fn parse_hard_drive(data: &[u8]) -> Option<Self> {
        let data: &[u8; 38] = data.try_into().ok()?;
        let (partition, rest) = data.split_first_chunk()?;
        let (start, rest) = rest.split_first_chunk()?;
        let (size, rest) = rest.split_first_chunk()?;
        let (guid, format) = rest.split_first_chunk::<16>()?;
        let signature = match (format, guid) {
            ([2, 2], guid) => Signature::Gpt(Uuid::from_bytes_le(*guid)),
            ([1, 1], [a, b, c, d, zero @ ..]) if *zero == [0; 12] => {
                Signature::Mbr(u32::from_le_bytes([*a, *b, *c, *d]))
            }
            ([1, 0], guid) if *guid == [0; 16] => Signature::None,
            _ => return None,
        };
        Some(Self::HardDrive {
            partition: u32::from_le_bytes(*partition),
            start_lba: u64::from_le_bytes(*start),
            size_lba: u64::from_le_bytes(*size),
            signature,
        })
    }

    fn parse_file_path(data: &[u8]) -> Option<Self> {
        let text = data.strip_suffix(&[0, 0])?;
        let text = ucs2::decode(text)?;
        (!text.contains('\0')).then_some(Self::FilePath(text))
    }

    fn render(&self, bytes: &mut Vec<u8>) -> Result<(), Error> {
        let (kind, sub_kind, data) = match self {
            Self::HardDrive { partition, start_lba, size_lba, signature } => {
                let (guid, format) = signature.render();
                let mut data = Vec::with_capacity(38);
                data.extend(partition.to_le_bytes());
                data.extend(start_lba.to_le_bytes());
                data.extend(size_lba.to_le_bytes());
                data.extend(guid);
                data.extend(format);
                (MEDIA, HARD_DRIVE, data)
            }
            Self::FilePath(name) if name.contains('\0') => return Err(Error::Nul(name.clone())),
            Self::FilePath(name) => (MEDIA, FILE_PATH, ucs2::encode_nul(name)),
            Self::Other { kind, sub_kind, data } => (*kind, *sub_kind, data.clone()),
        };
        let length = u16::try_from(HEADER + data.len()).map_err(|_| Error::TooLong(data.len()))?;
        bytes.extend([kind, sub_kind]);
        bytes.extend(length.to_le_bytes());
        bytes.extend(data);
        Ok(())
    }
}

impl Signature {
    /// The 16 bytes of the signature, then the partition table type and signature type.
    fn render(self) -> ([u8; 16], [u8; 2]) {
        match self {
            Self::None => ([0; 16], [1, 0]),
            Self::Mbr(id) => (u128::from(id).to_le_bytes(), [1, 1]),
            Self::Gpt(uuid) => (uuid.to_bytes_le(), [2, 2]),
        }
    }
}

/// The text form of section 10.6, as printed by `efibootmgr -v`.
impl fmt::Display for DevicePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, node) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str("/")?;
            }
            write!(f, "{node}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HardDrive { partition, start_lba, size_lba, signature } => {
                write!(f, "HD({partition},")?;
                match signature {
                    Signature::None => f.write_str("MBR,0")?,
                    Signature::Mbr(id) => write!(f, "MBR,0x{id:x}")?,
                    Signature::Gpt(uuid) => write!(f, "GPT,{uuid}")?,
                }
                write!(f, ",0x{start_lba:x},0x{size_lba:x})")
            }
            Self::FilePath(name) => write!(f, "File({name})"),
            Self::Other { kind, sub_kind, data } => {
                write!(f, "Path({kind},{sub_kind}")?;
                if !data.is_empty() {
                    f.write_str(",")?;
                }
                data.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str(")")
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
