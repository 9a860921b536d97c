//! Unified kernel images: UAPI.5. One file that consists of systemd's EFI stub and, as sections,
//! the kernel, initramfs and command line that the stub starts.

use crate::bzimage;
use crate::pe::{self, Image, OptionalHeader, SectionHeader};
use std::mem::size_of;
use zerocopy::IntoBytes;
use zerocopy::little_endian::U32;

/// Characteristics of initialised, readable data.
const DATA: u32 = 0x4000_0040;
/// Characteristics of executable code: stubs without LoadImage run the kernel in place.
const CODE: u32 = 0x6000_0020;
/// Firmware maps sections in whole pages, whatever the stub's own alignment.
const PAGE: u64 = 4096;
/// Index of the data directory that holds signatures.
const SECURITY_DIRECTORY: usize = 4;
/// The first stub that cannot load kernels before 6.0 (systemd#40342).
const STUB_WITHOUT_OLD_KERNELS: u32 = 258;

/// Why an image could not be assembled or parsed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An input is not a PE32+ image.
    #[error("{what}: {source}")]
    Image {
        /// The input: `stub`, `kernel` or `image`.
        what: &'static str,
        /// What is wrong with it.
        source: pe::Error,
    },
    /// The stub has no room for the headers of the new sections.
    #[error(
        "the stub's header has room for {room} more sections, but {needed} are needed; use the \
        stub of another systemd version"
    )]
    HeaderRoom {
        /// How many fit.
        room: usize,
        /// How many are needed.
        needed: usize,
    },
    /// The stub has the section already.
    #[error("the stub already has a section {0}; use a plain systemd stub")]
    Duplicate(String),
    /// A size or offset does not fit into 32 bits.
    #[error("the image would be larger than 4 GiB; leave something out of the initramfs")]
    TooBig,
    /// This stub is known not to start this kernel.
    #[error(
        "stub {stub} cannot start kernel {kernel} (systemd#40342); use a stub before \
        {STUB_WITHOUT_OLD_KERNELS} or a kernel from 6.0 on"
    )]
    OldKernel {
        /// The stub's version.
        stub: u32,
        /// The kernel's release.
        kernel: String,
    },
    /// The image has no kernel.
    #[error("the image has no section .linux: not a unified kernel image")]
    NoKernel,
    /// A text section is not UTF-8.
    #[error("the image's section {0} is not UTF-8 text")]
    Text(&'static str),
}

/// The contents of a unified kernel image, besides its stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sections<'a> {
    /// The kernel, itself an EFI program. When parsed from an image, it is padded with zeros to the
    /// file alignment.
    pub linux: &'a [u8],
    /// The initramfs.
    pub initrd: Option<&'a [u8]>,
    /// The kernel command line.
    pub cmdline: Option<&'a str>,
    /// The content of an os-release file.
    pub osrel: Option<&'a str>,
    /// The kernel's release.
    pub uname: Option<&'a str>,
    /// A BMP picture.
    pub splash: Option<&'a [u8]>,
}

impl<'a> Sections<'a> {
    /// Names and contents in file order. The kernel is last, so that no section is in the memory
    /// behind it, where it unpacks itself (systemd#34578).
    fn ordered(&self) -> Vec<(&'static str, &'a [u8])> {
        let text = |text: Option<&'a str>| text.map(str::as_bytes);
        let sections = [
            (".osrel", text(self.osrel)),
            (".uname", text(self.uname)),
            (".cmdline", text(self.cmdline)),
            (".splash", self.splash),
            (".initrd", self.initrd),
            (".linux", Some(self.linux)),
        ];
        let present = sections.into_iter();
        present.filter_map(|(name, data)| Some((name, data?))).collect()
    }
}

/// Appends the sections to those of the stub. The same inputs give the same bytes.
///
/// # Errors
/// The stub or the kernel is not a PE32+ image, or they are incompatible.
pub fn assemble(stub: &[u8], sections: &Sections<'_>) -> Result<Vec<u8>, Error> {
    let stub = parse_image(stub, "stub")?;
    let kernel = parse_image(sections.linux, "kernel")?;
    refuse_old_kernel(&stub, sections.linux)?;
    let new = sections.ordered();
    if let Some(taken) = stub.sections.iter().find(|s| new.iter().any(|(n, _)| *n == s.name())) {
        return Err(Error::Duplicate(taken.name()));
    }
    let room = header_room(&stub);
    if room < new.len() {
        return Err(Error::HeaderRoom { room, needed: new.len() });
    }

    let mut image = Assembly::new(&stub)?;
    for (name, data) in new {
        let (memory, characteristics) = match name {
            // The kernel needs memory behind itself to unpack; that memory needs no space in the
            // file (systemd#34578, systemd#35851).
            ".linux" => (u64::from(kernel.optional.image_size).max(data.len() as u64), CODE),
            _ => (data.len() as u64, DATA),
        };
        image.add(name, data, memory, characteristics)?;
    }
    image.finish(&stub)
}

/// Parses an image into its sections.
///
/// # Errors
/// The bytes are not a PE32+ image, there is no kernel, or a text section is not UTF-8.
pub fn parse(bytes: &[u8]) -> Result<Sections<'_>, Error> {
    let image = parse_image(bytes, "image")?;
    let text = |name| match image.section(name) {
        None => Ok(None),
        Some(data) => {
            let end = data.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let text = std::str::from_utf8(&data[..end]);
            text.map(Some).map_err(|_| Error::Text(name))
        }
    };
    Ok(Sections {
        linux: image.section(".linux").ok_or(Error::NoKernel)?,
        initrd: image.section(".initrd"),
        cmdline: text(".cmdline")?,
        osrel: text(".osrel")?,
        uname: text(".uname")?,
        splash: image.section(".splash"),
    })
}

/// The version of a systemd stub, such as 257.
pub fn stub_version(stub: &[u8]) -> Option<u32> {
    version_in(&Image::parse(stub).ok()?)
}

/// An image under construction, to which sections are added one by one.
struct Assembly {
    bytes: Vec<u8>,
    optional: OptionalHeader,
    added: Vec<SectionHeader>,
    /// The first free virtual address.
    address: u64,
}

impl Assembly {
    /// Starts with the stub up to the end of its last section. A COFF symbol table or signature
    /// after that would end up at the wrong offset (systemd#27004).
    fn new(stub: &Image<'_>) -> Result<Self, Error> {
        let sections = || stub.sections.iter();
        let raw_end = sections().map(|s| u64::from(s.raw_offset) + u64::from(s.raw_size)).max();
        let headers = u64::from(stub.optional.headers_size);
        let end = raw_end.unwrap_or(0).max(headers);
        let end = usize::try_from(end).map_err(|_| Error::TooBig)?;
        let bytes = stub
            .bytes
            .get(..end)
            .ok_or(Error::Image { what: "stub", source: pe::Error::Short("headers") })?;
        let address =
            sections().map(|s| u64::from(s.virtual_address) + u64::from(s.virtual_size)).max();
        Ok(Self {
            bytes: bytes.to_vec(),
            optional: stub.optional,
            added: Vec::new(),
            address: address.unwrap_or(0).max(headers),
        })
    }

    fn add(
        &mut self,
        name: &str,
        data: &[u8],
        memory: u64,
        characteristics: u32,
    ) -> Result<(), Error> {
        let file_alignment = u64::from(self.optional.file_alignment);
        let alignment = u64::from(self.optional.section_alignment).max(PAGE);
        self.pad(file_alignment)?;
        let raw_offset = self.bytes.len() as u64;
        self.bytes.extend(data);
        self.pad(file_alignment)?;
        let raw_size = self.bytes.len() as u64 - raw_offset;
        let address = self.address.next_multiple_of(alignment);
        self.address = address + memory;

        let mut header = SectionHeader {
            name: [0; 8],
            virtual_size: to_u32(memory)?,
            virtual_address: to_u32(address)?,
            raw_size: to_u32(raw_size)?,
            raw_offset: to_u32(raw_offset)?,
            relocations: [U32::ZERO; 2],
            relocation_counts: U32::ZERO,
            characteristics: characteristics.into(),
        };
        header.name[..name.len()].copy_from_slice(name.as_bytes());
        self.added.push(header);
        let total = match characteristics {
            CODE => &mut self.optional.code_size,
            _ => &mut self.optional.data_size,
        };
        *total = to_u32(u64::from(*total) + raw_size)?;
        Ok(())
    }

    fn pad(&mut self, alignment: u64) -> Result<(), Error> {
        let length = (self.bytes.len() as u64).next_multiple_of(alignment);
        to_u32(length)?;
        self.bytes.resize(usize::try_from(length).map_err(|_| Error::TooBig)?, 0);
        Ok(())
    }

    fn finish(mut self, stub: &Image<'_>) -> Result<Vec<u8>, Error> {
        let alignment = u64::from(self.optional.section_alignment).max(PAGE);
        self.optional.image_size = to_u32(self.address.next_multiple_of(alignment))?;
        // Firmware ignores the checksum, and signing tools set it.
        self.optional.checksum = U32::ZERO;
        let mut coff = stub.coff;
        let count = stub.sections.len() + self.added.len();
        coff.sections = u16::try_from(count).map_err(|_| Error::TooBig)?.into();
        coff.symbol_table = U32::ZERO;
        coff.symbols = U32::ZERO;

        let optional_offset = stub.coff_offset + coff.as_bytes().len();
        self.put(stub.coff_offset, coff.as_bytes());
        self.put(optional_offset, self.optional.as_bytes().to_vec().as_slice());
        if stub.optional.directories.get() as usize > SECURITY_DIRECTORY {
            let directories = optional_offset + size_of::<OptionalHeader>();
            self.put(directories + SECURITY_DIRECTORY * 8, &[0; 8]);
        }
        let table = stub.section_table() + stub.sections.as_bytes().len();
        self.put(table, self.added.as_bytes().to_vec().as_slice());
        Ok(self.bytes)
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(range) = self.bytes.get_mut(offset..offset + bytes.len()) {
            range.copy_from_slice(bytes);
        }
    }
}

/// How many more section headers fit after those of the stub (systemd#28593).
fn header_room(stub: &Image<'_>) -> usize {
    let taken = stub.section_table() + stub.sections.as_bytes().len();
    let raw = stub.sections.iter().filter(|s| s.raw_size.get() > 0).map(|s| s.raw_offset.get());
    let mapped = stub.sections.iter().map(|s| s.virtual_address.get());
    let end = raw.chain(mapped).fold(stub.optional.headers_size.get(), u32::min);
    (end as usize).saturating_sub(taken) / size_of::<SectionHeader>()
}

fn refuse_old_kernel(stub: &Image<'_>, linux: &[u8]) -> Result<(), Error> {
    let (Some(stub), Some(kernel)) = (version_in(stub), bzimage::release(linux)) else {
        return Ok(());
    };
    let major = kernel.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if stub >= STUB_WITHOUT_OLD_KERNELS && major.is_some_and(|major| major < 6) {
        return Err(Error::OldKernel { stub, kernel: kernel.to_owned() });
    }
    Ok(())
}

/// Parses `#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####`.
fn version_in(stub: &Image<'_>) -> Option<u32> {
    let magic = std::str::from_utf8(stub.section(".sdmagic")?).ok()?;
    let (_, version) = magic.split_once("systemd-stub ")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

fn parse_image<'a>(bytes: &'a [u8], what: &'static str) -> Result<Image<'a>, Error> {
    Image::parse(bytes).map_err(|source| Error::Image { what, source })
}

fn to_u32(value: u64) -> Result<U32, Error> {
    u32::try_from(value).map(U32::from).map_err(|_| Error::TooBig)
}

#[cfg(test)]
mod tests;
