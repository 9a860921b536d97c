use super::*;
use crate::bzimage::tests::header;
use crate::pe::CoffHeader;
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;

const MAGIC: &str = "#### LoaderInfo: systemd-stub 252.39-1~deb12u2 ####";

/// A minimal image: one section, aligned as in Debian 12's stub, and a symbol table after it. The
/// header has room for `room` more sections.
fn stub(magic: &str, room: usize) -> Vec<u8> {
    let headers_size = 0x40 + 4 + 20 + 240 + 40 * (1 + room);
    let mut bytes = vec![0; headers_size];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[0x3c] = 0x40;
    bytes[0x40..0x44].copy_from_slice(b"PE\0\0");
    let raw_offset = u32::try_from(headers_size).unwrap();
    let coff = CoffHeader {
        machine: 0x8664.into(),
        sections: 1.into(),
        timestamp: 0.into(),
        symbol_table: (raw_offset + 0x200).into(),
        symbols: 2.into(),
        optional_size: 240.into(),
        characteristics: 0x206.into(),
    };
    bytes[0x44..0x58].copy_from_slice(coff.as_bytes());
    let put = |bytes: &mut Vec<u8>, at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    bytes[0x58..0x5a].copy_from_slice(&0x20bu16.to_le_bytes());
    put(&mut bytes, 0x58 + 32, 0x200);
    put(&mut bytes, 0x58 + 36, 0x200);
    put(&mut bytes, 0x58 + 56, 0x19300);
    put(&mut bytes, 0x58 + 60, raw_offset);
    put(&mut bytes, 0x58 + 64, 0x1234);
    bytes[0x58 + 68] = 10;
    put(&mut bytes, 0x58 + 108, 16);
    let section = SectionHeader {
        name: *b".sdmagic",
        virtual_size: u32::try_from(magic.len()).unwrap().into(),
        virtual_address: 0x19100.into(),
        raw_size: 0x200.into(),
        raw_offset: raw_offset.into(),
        relocations: [U32::ZERO; 2],
        relocation_counts: U32::ZERO,
        characteristics: DATA.into(),
    };
    bytes[0x148..0x170].copy_from_slice(section.as_bytes());
    bytes.extend(magic.bytes());
    bytes.resize(headers_size + 0x200, 0);
    bytes.extend(b"two symbols");
    bytes
}

/// An EFI kernel that needs `memory` bytes to run.
fn kernel(version: &str, memory: u32) -> Vec<u8> {
    let mut image = header(version);
    let pe = stub("", 0);
    image[..0x170].copy_from_slice(&pe[..0x170]);
    // The section's bytes would be past the end of the file.
    image[0x46] = 0;
    image[0x58 + 56..0x58 + 60].copy_from_slice(&memory.to_le_bytes());
    image
}

fn sections(linux: &[u8]) -> Sections<'_> {
    Sections {
        linux,
        initrd: Some(b"070701"),
        cmdline: Some("console=ttyS0 quiet"),
        osrel: Some("ID=lifeboat\n"),
        uname: Some("6.1.0-50-amd64"),
        splash: None,
    }
}

#[test]
fn sections_are_read_back_as_they_were_assembled() {
    let linux = kernel("6.1.0-50-amd64 (d) #1", 0x10_0000);
    let parts = sections(&linux);
    let stub = stub(MAGIC, 5);
    let image = assemble(&stub, &parts).unwrap();
    let mut read = parse(&image).unwrap();
    assert_eq!(read.linux[..linux.len()], linux);
    assert!(read.linux[linux.len()..].iter().all(|byte| *byte == 0));
    read.linux = &linux;
    assert_eq!(read, parts);
    assert_eq!(assemble(&stub, &parts).unwrap(), image);
    assert_eq!(stub_version(&image), Some(252));
}

#[test]
fn an_assembled_image_has_valid_headers_and_layout() {
    let linux = kernel("6.1.0-50-amd64 (d) #1", 0x10_0000);
    let bytes = assemble(&stub(MAGIC, 5), &sections(&linux)).unwrap();
    let image = Image::parse(&bytes).unwrap();
    assert_eq!((image.coff.symbol_table.get(), image.coff.symbols.get()), (0, 0));
    assert!(!bytes.windows(11).any(|w| w == b"two symbols"));
    let mut end = 0;
    for section in &image.sections {
        let address = section.virtual_address.get();
        assert!(address >= end, "{} overlaps", section.name());
        assert!(section.name() == ".sdmagic" || address.is_multiple_of(4096));
        end = address + section.virtual_size.get();
    }
    let last = image.sections.last().unwrap();
    assert_eq!(last.name(), ".linux");
    assert_eq!(last.virtual_size.get(), 0x10_0000);
    assert_eq!(last.raw_size.get(), 0x600);
    assert_eq!(image.optional.image_size.get(), end.next_multiple_of(4096));
    assert_eq!(image.optional.checksum.get(), 0);
}

#[test]
fn an_image_that_would_not_boot_is_refused() {
    let old = kernel("5.15.0-1-amd64 (d) #1", 0x1000);
    let new = kernel("6.12.0 (d) #1", 0x1000);
    let refused = |stub: &[u8], linux: &[u8]| assemble(stub, &sections(linux)).unwrap_err();
    assert!(matches!(refused(&stub(MAGIC, 4), &new), Error::HeaderRoom { room: 4, needed: 5 }));
    assert!(matches!(refused(b"MZ", &new), Error::Image { what: "stub", .. }));
    assert!(matches!(refused(&stub(MAGIC, 5), b"\x7fELF"), Error::Image { what: "kernel", .. }));
    let stub_258 = stub("#### LoaderInfo: systemd-stub 258.1 ####", 5);
    assert!(matches!(refused(&stub_258, &old), Error::OldKernel { stub: 258, .. }));
    assert!(assemble(&stub_258, &sections(&new)).is_ok());
    assert!(assemble(&stub(MAGIC, 5), &sections(&old)).is_ok());
    let image = assemble(&stub(MAGIC, 30), &sections(&new)).unwrap();
    assert!(matches!(refused(&image, &new), Error::Duplicate(_)));
    assert!(matches!(parse(&stub(MAGIC, 5)), Err(Error::NoKernel)));
}

/// Checked with our minimal stub and, where it is installed, with systemd's.
#[test]
fn binutils_reads_every_section_back() {
    let linux = kernel("6.1.0-50-amd64 (d) #1", 0x10_0000);
    let parts = sections(&linux);
    let installed = std::fs::read("/usr/lib/systemd/boot/efi/linuxx64.efi.stub").ok();
    for stub in [Some(stub(MAGIC, 5)), installed].into_iter().flatten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("uki.efi");
        std::fs::write(&path, assemble(&stub, &parts).unwrap()).unwrap();
        let Ok(listed) = Command::new("objdump").arg("-h").arg(&path).output() else {
            return;
        };
        assert!(listed.status.success(), "{listed:?}");
        assert!(listed.stderr.is_empty(), "{listed:?}");
        for (name, data) in parts.ordered() {
            let dumped = dump(&path, name);
            assert_eq!(dumped[..data.len()], *data, "{name}");
            assert!(name == ".linux" || dumped.len() == data.len(), "{name}");
        }
    }
}

fn dump(image: &Path, section: &str) -> Vec<u8> {
    let to = image.with_extension("section");
    let argument = format!("{section}={}", to.display());
    let status = Command::new("objcopy")
        .args(["-O", "binary", "--dump-section", &argument])
        .arg(image)
        .arg(image.with_extension("out"))
        .status();
    assert!(status.unwrap().success());
    std::fs::read(to).unwrap()
}

proptest! {
    #[test]
    fn a_damaged_image_is_parsed_without_a_panic(
        changes in prop::collection::vec((0usize..0x400, any::<u8>()), 0..20),
        cut in 0usize..0x1000,
    ) {
        let linux = kernel("6.1.0-50-amd64 (d) #1", 0x1000);
        let mut damaged = assemble(&stub(MAGIC, 12), &sections(&linux)).unwrap();
        for (at, byte) in changes {
            damaged[at] = byte;
        }
        damaged.truncate(damaged.len().saturating_sub(cut));
        let _ = parse(&damaged);
        let _ = assemble(&damaged, &sections(&linux));
        let _ = assemble(&stub(MAGIC, 5), &sections(&damaged));
    }
}
