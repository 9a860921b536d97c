//! PE32+ images: the parts of the PE format specification that UEFI 2.10, section 2.1.1, uses.

use std::mem::size_of;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const PE32_PLUS: u16 = 0x20b;
/// Offset of the DOS header's field that holds the offset of the PE header.
const LFANEW: usize = 0x3c;

/// Why bytes are not an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A signature is missing.
    #[error("not a PE32+ image: {0} is missing")]
    Magic(&'static str),
    /// A header extends past the end.
    #[error("PE image ends within its {0}")]
    Short(&'static str),
    /// A section extends past the end.
    #[error("PE section {0} extends past the end of the image")]
    Section(String),
    /// An alignment is not a power of two, or is too large.
    #[error("PE image has an invalid alignment of {0}")]
    Alignment(u32),
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct CoffHeader {
    pub machine: U16,
    pub sections: U16,
    pub timestamp: U32,
    pub symbol_table: U32,
    pub symbols: U32,
    pub optional_size: U16,
    pub characteristics: U16,
}

/// The optional header, without the data directories that follow it.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct OptionalHeader {
    pub magic: U16,
    pub linker: [u8; 2],
    pub code_size: U32,
    pub data_size: U32,
    pub zeroed_size: U32,
    pub entry: U32,
    pub code_base: U32,
    pub image_base: U64,
    pub section_alignment: U32,
    pub file_alignment: U32,
    pub versions: [U32; 4],
    pub image_size: U32,
    pub headers_size: U32,
    pub checksum: U32,
    pub subsystem: U16,
    pub dll_characteristics: U16,
    pub stack_and_heap: [U64; 4],
    pub loader_flags: U32,
    pub directories: U32,
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SectionHeader {
    pub name: [u8; 8],
    pub virtual_size: U32,
    pub virtual_address: U32,
    pub raw_size: U32,
    pub raw_offset: U32,
    pub relocations: [U32; 2],
    pub relocation_counts: U32,
    pub characteristics: U32,
}

/// An image whose headers are valid and whose sections are within the file.
#[derive(Clone)]
pub(crate) struct Image<'a> {
    pub bytes: &'a [u8],
    /// Offset of the COFF header.
    pub coff_offset: usize,
    pub coff: CoffHeader,
    pub optional: OptionalHeader,
    pub sections: Vec<SectionHeader>,
}

impl<'a> Image<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        if !bytes.starts_with(b"MZ") {
            return Err(Error::Magic("MZ"));
        }
        let lfanew: U32 = read(bytes, LFANEW, "DOS header")?;
        let pe_offset = usize::try_from(lfanew.get()).map_err(|_| Error::Short("DOS header"))?;
        let magic: [u8; 4] = read(bytes, pe_offset, "PE header")?;
        if &magic != b"PE\0\0" {
            return Err(Error::Magic("PE"));
        }
        let coff_offset = pe_offset + magic.len();
        let coff: CoffHeader = read(bytes, coff_offset, "COFF header")?;
        let optional_offset = coff_offset + size_of::<CoffHeader>();
        let optional: OptionalHeader = read(bytes, optional_offset, "optional header")?;
        let optional_size = usize::from(coff.optional_size.get());
        if optional.magic.get() != PE32_PLUS || optional_size < size_of::<OptionalHeader>() {
            return Err(Error::Magic("PE32+"));
        }
        let (file, memory) = (optional.file_alignment.get(), optional.section_alignment.get());
        for (alignment, limit) in [(file, 0x1_0000), (memory, 0x20_0000)] {
            if !alignment.is_power_of_two() || alignment > limit {
                return Err(Error::Alignment(alignment));
            }
        }
        let mut sections = Vec::new();
        for at in 0..usize::from(coff.sections.get()) {
            let offset = optional_offset + optional_size + at * size_of::<SectionHeader>();
            let section: SectionHeader = read(bytes, offset, "section table")?;
            if u64::from(section.raw_offset) + u64::from(section.raw_size) > bytes.len() as u64 {
                return Err(Error::Section(section.name()));
            }
            sections.push(section);
        }
        Ok(Self { bytes, coff_offset, coff, optional, sections })
    }

    /// Offset of the first section header.
    pub fn section_table(&self) -> usize {
        let optional = usize::from(self.coff.optional_size.get());
        self.coff_offset + size_of::<CoffHeader>() + optional
    }

    /// The content of the first section of this name, up to what the file holds of it.
    pub fn section(&self, name: &str) -> Option<&'a [u8]> {
        let section = self.sections.iter().find(|s| s.name() == name)?;
        let start = usize::try_from(section.raw_offset.get()).ok()?;
        let length = section.raw_size.get().min(section.virtual_size.get());
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        self.bytes.get(start..end)
    }
}

impl SectionHeader {
    pub fn name(&self) -> String {
        let end = self.name.iter().position(|b| *b == 0).unwrap_or(8);
        String::from_utf8_lossy(&self.name[..end]).into_owned()
    }
}

fn read<T: FromBytes>(bytes: &[u8], offset: usize, what: &'static str) -> Result<T, Error> {
    let rest = bytes.get(offset..).ok_or(Error::Short(what))?;
    T::read_from_prefix(rest).map(|(value, _)| value).map_err(|_| Error::Short(what))
}
