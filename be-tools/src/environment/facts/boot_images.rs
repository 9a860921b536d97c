//! Checks whether the files that start a system look undamaged: kernel
//! (Documentation/arch/x86/boot.rst), initramfs
//! (Documentation/driver-api/early-userspace/buffer-format.rst), and init (ELF, System V ABI).

use crate::root_dir::RootDir;

use super::files::{is_executable, read_at, regular};

/// The release in a kernel image, and what is wrong with the image. Returns `None` if there is no
/// regular file of that name.
pub(super) fn kernel(root: &RootDir, path: &str) -> Option<(Option<String>, Option<String>)> {
    let (file, size) = regular(root, path)?;
    let head = match read_at(&file, 0, 64 << 10) {
        Ok(head) => head,
        Err(error) => return Some((None, Some(format!("cannot be read ({error})")))),
    };
    let release = boot::bzimage::release(&head).filter(|r| is_release(r)).map(str::to_owned);
    let problem = if size == 0 {
        Some("is empty".into())
    } else if head.iter().all(|b| *b == 0) {
        Some("holds only zeros".into())
    } else {
        bzimage_size(&head).filter(|whole| size < *whole).map(|_| "is cut short".into())
    };
    Some((release, problem))
}

/// Whether a text can be the name of a directory in /lib/modules.
fn is_release(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

/// The size of a bzImage according to its header: setup sectors, then 16-byte paragraphs.
pub(crate) fn bzimage_size(head: &[u8]) -> Option<u64> {
    (head.get(0x202..0x206)? == b"HdrS").then_some(())?;
    let setup = match *head.get(0x1f1)? {
        0 => 4,
        sectors => u64::from(sectors),
    };
    let paragraphs = u32::from_le_bytes(head.get(0x1f4..0x1f8)?.try_into().ok()?);
    Some((setup + 1) * 512 + u64::from(paragraphs) * 16)
}

/// The magic numbers of everything that an initramfs can be: cpio archives and compressed data.
const MAGICS: &[&[u8]] = &[
    b"070701",
    b"070702",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ\0",
    b"BZh",
    b"\x5d\0\0",
    b"\x02\x21\x4c\x18",
    b"\x89LZO",
];

/// What is wrong with an initramfs.
pub(super) fn initramfs_problem(root: &RootDir, path: &str) -> Option<String> {
    let Some((file, size)) = regular(root, path) else {
        return Some("is not a regular file".into());
    };
    if size == 0 {
        return Some("is empty".into());
    }
    let read = |offset, len| read_at(&file, offset, len);
    let start = match main_archive(&read) {
        Ok(start) => start,
        Err(error) => return Some(format!("cannot be read ({error})")),
    };
    let Some(start) = start else { return Some("is cut short".into()) };
    let head = read(start, 8).unwrap_or_default();
    if !MAGICS.iter().any(|magic| head.starts_with(magic)) {
        return Some("is damaged: it does not begin like an initramfs".into());
    }
    // Data that was not yet written when the power failed reads as zeros.
    let tail = read(size.saturating_sub(512), 512).unwrap_or_default();
    if !head.starts_with(b"0707") && tail.iter().all(|b| *b == 0) {
        return Some("is damaged: it ends in zeros".into());
    }
    None
}

/// Where the main archive begins. An uncompressed archive with microcode may come before it.
/// Returns `None` if the file ends within that one.
pub(crate) fn main_archive(
    read: &dyn Fn(u64, usize) -> std::io::Result<Vec<u8>>,
) -> std::io::Result<Option<u64>> {
    // Microcode has only a few files. An archive with more is an uncompressed main archive.
    const MAX_MICROCODE_FILES: usize = 64;
    let mut at = 0;
    for _ in 0..MAX_MICROCODE_FILES {
        let header = read(at, 110)?;
        if !header.starts_with(b"0707") {
            return Ok(if at == 0 || header.is_empty() { Some(0) } else { None });
        }
        let field = |from: usize| -> Option<u64> {
            u64::from_str_radix(std::str::from_utf8(header.get(from..from + 8)?).ok()?, 16).ok()
        };
        let (Some(file), Some(name)) = (field(54), field(94)) else { return Ok(None) };
        let trailer = read(at + 110, 11)? == b"TRAILER!!!\0";
        let content = (at + 110 + name).next_multiple_of(4);
        let end = (content + file).next_multiple_of(4);
        if trailer {
            let next = read(end, 4096)?;
            return Ok(match next.iter().position(|b| *b != 0) {
                Some(padding) => Some(end + padding as u64),
                None => Some(0),
            });
        }
        at = end;
    }
    Ok(Some(0))
}

/// What is wrong with /sbin/init, or with the dynamic linker that it needs.
pub(super) fn init_problem(root: &RootDir) -> Option<String> {
    let Some((file, size)) = regular(root, "sbin/init") else {
        return Some("/sbin/init is missing".into());
    };
    if size == 0 {
        return Some("/sbin/init is empty".into());
    }
    if !is_executable(&file) {
        return Some("/sbin/init is not executable".into());
    }
    let head = read_at(&file, 0, 64 << 10).unwrap_or_default();
    if head.starts_with(b"#!") {
        return None;
    }
    if !head.starts_with(b"\x7fELF") {
        return Some("/sbin/init is damaged: it is not a program".into());
    }
    let linker = interpreter(&head)?;
    match regular(root, &linker) {
        Some((file, 1..)) if is_executable(&file) => None,
        Some((_, 1..)) => Some(format!("{linker}, which /sbin/init needs, is not executable")),
        Some(_) => Some(format!("{linker}, which /sbin/init needs, is empty")),
        None => Some(format!("{linker}, which /sbin/init needs, is missing")),
    }
}

/// PT_INTERP of a 64-bit little-endian ELF file.
pub(crate) fn interpreter(elf: &[u8]) -> Option<String> {
    const INTERPRETER: u32 = 3;
    (elf.get(4..6)? == [2, 1]).then_some(())?;
    let half =
        |at: usize| Some(u16::from_le_bytes(elf.get(at..at.checked_add(2)?)?.try_into().ok()?));
    let word =
        |at: usize| Some(u32::from_le_bytes(elf.get(at..at.checked_add(4)?)?.try_into().ok()?));
    let long = |at: usize| -> Option<usize> {
        u64::from_le_bytes(elf.get(at..at.checked_add(8)?)?.try_into().ok()?).try_into().ok()
    };
    let (table, size, count) = (long(32)?, usize::from(half(54)?), usize::from(half(56)?));
    (0..count).find_map(|index| {
        let header = table.checked_add(index * size)?;
        (word(header)? == INTERPRETER).then_some(())?;
        let (offset, length) = (long(header.checked_add(8)?)?, long(header.checked_add(32)?)?);
        let path = elf.get(offset..offset.checked_add(length.min(4096))?)?;
        let path = path.split(|b| *b == 0).next()?;
        String::from_utf8(path.to_vec()).ok().filter(|path| path.starts_with('/'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_dynamic_linker_of_a_real_program_is_found() {
        let program = std::fs::read("/bin/true").unwrap();
        assert_eq!(interpreter(&program).as_deref(), Some("/lib64/ld-linux-x86-64.so.2"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_cause_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..2000),
            places in proptest::collection::vec((0_usize..2000, any::<u8>()), 0..20),
        ) {
            let archive = |bytes: &[u8]| {
                let read = |at: u64, len: usize| {
                    let from = usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
                    Ok(bytes[from..from.saturating_add(len).min(bytes.len())].to_vec())
                };
                main_archive(&read)
            };
            let mut elf = std::fs::read("/bin/true").unwrap();
            elf.truncate(2000);
            let mut cpio = format!("070701{:0104}x", 0).repeat(10).into_bytes();
            for (at, value) in places {
                for seed in [&mut elf, &mut cpio] {
                    if let Some(byte) = seed.get_mut(at) {
                        *byte = value;
                    }
                }
            }
            for bytes in [bytes, elf, cpio] {
                let _ = (interpreter(&bytes), bzimage_size(&bytes), archive(&bytes).unwrap());
            }
        }
    }
}
