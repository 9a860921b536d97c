//! Kernels, initramfs images, programs, and unified kernel images.

use be_tools::fuzzing;
use boot::bzimage;
use boot::uki::{Sections, assemble, parse, stub_version};

pub fn boot_image(bytes: &[u8]) {
    if let Some(release) = bzimage::release(bytes) {
        assert!(!release.is_empty() && !release.contains(' '), "{release:?}");
    }
    if let Some(linker) = fuzzing::boot_image(bytes) {
        assert!(linker.starts_with('/') && linker.len() <= 4096, "{linker:?}");
    }
}

/// The smallest image that is a stub and a kernel.
const SMALL: &[u8] = include_bytes!("../../corpus/unified_kernel_image/stub");

/// The input as an image, as a stub and as a kernel.
pub fn unified_kernel_image(bytes: &[u8]) {
    let _ = (parse(bytes), stub_version(bytes));
    let sections = |linux| Sections {
        linux,
        initrd: Some(b"070701"),
        cmdline: Some("quiet"),
        osrel: Some("ID=lifeboat\n"),
        uname: Some("6.1.0"),
        splash: None,
    };
    for (stub, kernel) in [(bytes, SMALL), (SMALL, bytes)] {
        let Ok(image) = assemble(stub, &sections(kernel)) else { continue };
        let read = parse(&image).expect("it was assembled");
        assert!(read.linux.starts_with(kernel));
        // A stub may have a picture of its own.
        assert_eq!(Sections { linux: kernel, splash: None, ..read }, sections(kernel));
    }
}
