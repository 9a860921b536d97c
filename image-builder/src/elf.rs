//! ELF: what a program requires from the dynamic linker (System V gABI, chapter 5), and the
//! metadata of a kernel module (`.modinfo`).

use std::collections::BTreeMap;

use object::Endianness;
use object::elf::{DT_NEEDED, FileHeader64, PT_INTERP};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader};

/// What a program or library requires from the dynamic linker.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// Path of the dynamic linker; `None` for a static program and for most libraries.
    pub interpreter: Option<String>,
    /// Names of the shared libraries it is linked with, in order.
    pub needed: Vec<String>,
}

type Header = FileHeader64<Endianness>;

/// Reads the interpreter and the `DT_NEEDED` entries of an ELF file.
///
/// # Errors
/// When `data` is not a well-formed 64-bit ELF file.
pub fn dynamic(data: &[u8]) -> Result<Dynamic, object::Error> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let mut found = Dynamic::default();
    for segment in segments {
        if segment.p_type(endian) == PT_INTERP {
            let path = segment.data(endian, data).unwrap_or_default();
            found.interpreter = Some(text(path.split(|byte| *byte == 0).next().unwrap_or(path)));
        }
    }
    let sections = header.sections(endian, data)?;
    if let Some((entries, strings)) = sections.dynamic(endian, data)? {
        let strings = sections.strings(endian, data, strings)?;
        for entry in entries {
            if entry.tag32(endian) == Some(DT_NEEDED) {
                found.needed.push(text(entry.string(endian, strings)?));
            }
        }
    }
    Ok(found)
}

/// The `key=value` pairs of a kernel module's `.modinfo` section. A key can be repeated.
///
/// # Errors
/// When `data` is not a well-formed 64-bit ELF file.
pub fn modinfo(data: &[u8]) -> Result<BTreeMap<String, Vec<String>>, object::Error> {
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, data)?;
    let mut pairs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if let Some((_, section)) = sections.section_by_name(endian, b".modinfo") {
        for pair in section.data(endian, data)?.split(|byte| *byte == 0) {
            if let Some((key, value)) = text(pair).split_once('=') {
                pairs.entry(key.into()).or_default().push(value.into());
            }
        }
    }
    Ok(pairs)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dynamic_program_names_its_linker_and_libraries() {
        let shell = std::fs::read("/bin/sh").unwrap();
        let found = dynamic(&shell).unwrap();
        assert_eq!(found.interpreter.as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(found.needed, ["libc.so.6"]);
    }

    #[test]
    fn a_static_program_needs_nothing() {
        // This test is itself linked statically, as everything in the workspace is.
        let own = std::fs::read("/proc/self/exe").unwrap();
        assert_eq!(dynamic(&own).unwrap(), Dynamic::default());
    }

    #[test]
    fn a_file_that_is_not_elf_is_an_error() {
        assert!(dynamic(b"#!/bin/sh\n").is_err());
        assert!(modinfo(b"").is_err());
    }
}
