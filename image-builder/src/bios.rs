//! GRUB for BIOS firmware: its boot sector and core image, placed in the free space of a GPT disk
//! without root and without `grub-install`.
//!
//! See the GRUB manual, "BIOS installation". The bytes that are patched are those of
//! grub-core/boot/i386/pc/{boot,diskboot}.S.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::packages::Packages;
use crate::tool::{self, Tool};

/// Blocks of the BIOS boot partition, in the gap before the first aligned partition.
pub const BLOCKS: Range<u64> = 40..2048;
/// Size of the boot code in a master boot record. The disk's signature and partitions follow it.
pub const MBR_CODE: usize = 440;

/// The directory on the EFI system partition that holds GRUB's files.
const DIRECTORY: &str = "lifeboat";
const BLOCK: usize = 512;
const MODULES: &[&str] = &[
    "biosdisk",
    "part_gpt",
    "part_msdos",
    "fat",
    "normal",
    "linux",
    "search",
    "search_fs_uuid",
    "serial",
    "terminal",
    "echo",
    "configfile",
    "test",
    "reboot",
    "halt",
    "boot",
    "minicmd",
    "sleep",
];

/// Why the boot code could not be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `grub-mkimage` failed.
    #[error(transparent)]
    Tool(#[from] tool::Error),
    /// A file cannot be read or written.
    #[error("{path}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A part of GRUB is not in the packages.
    #[error("{0} is in none of the packages")]
    Missing(&'static str),
    /// A part of GRUB has an unusable size.
    #[error("GRUB's {part} has an unusable size of {size} bytes")]
    Size {
        /// The part.
        part: &'static str,
        /// Its size in bytes.
        size: usize,
    },
}

/// The code that a BIOS runs, patched for the blocks that it is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootCode {
    /// Written to the first bytes of the disk.
    pub mbr: Vec<u8>,
    /// Written to [`BLOCKS`].
    pub core: Vec<u8>,
}

/// The path on the EFI system partition of one of GRUB's files.
pub fn path(name: &str) -> String {
    format!("{DIRECTORY}/{name}")
}

/// GRUB's configuration: it boots the image after three seconds, in which `e` changes the kernel's
/// command line. Menu and output are on screen and serial line.
pub fn configuration(command_line: &str) -> String {
    let command_line = command_line.replace('\\', "\\\\").replace('$', "\\$");
    format!(
        "serial --unit=0 --speed=115200\n\
         terminal_input console serial\n\
         terminal_output console serial\n\
         timeout=3\n\
         menuentry 'Lifeboat rescue image' {{\n\
         echo 'Lifeboat rescue image'\n\
         linux /{DIRECTORY}/vmlinuz {command_line}\n\
         initrd /{DIRECTORY}/initramfs\n\
         boot\n\
         echo 'The rescue image cannot be started: its files cannot be read.'\n\
         sleep 10\n\
         reboot\n\
         }}\n"
    )
}

/// Creates boot code that boots from the FAT file system with serial number `volume`.
///
/// # Errors
/// When a part of GRUB is missing or `grub-mkimage` fails.
pub fn boot_code(packages: &Packages, volume: u32) -> Result<BootCode, Error> {
    let directory = packages.file("usr/lib/grub/i386-pc");
    let boot = read(&directory.join("boot.img"))?;
    let work = tempfile::tempdir().map_err(|source| file_error(&directory, source))?;
    let (early, core) = (work.path().join("early.cfg"), work.path().join("core.img"));
    fs::write(&early, early_configuration(volume)).map_err(|source| file_error(&early, source))?;
    packaged(packages, "grub-mkimage")?
        .args(["-O", "i386-pc", "-p", "/boot/grub", "-c"])
        .arg(&early)
        .arg("-d")
        .arg(&directory)
        .arg("-o")
        .arg(&core)
        .args(MODULES)
        .run()?;
    patch(boot, read(&core)?, BLOCKS.start)
}

/// GRUB's rescue parser reads this: only plain commands, one per line.
fn early_configuration(volume: u32) -> String {
    let (high, low) = (volume >> 16, volume & 0xffff);
    format!(
        "search --no-floppy --set=root --fs-uuid {high:04X}-{low:04X}\n\
         configfile ($root)/{DIRECTORY}/grub.cfg\n\
         sleep 10\n\
         reboot\n"
    )
}

/// A program of the packages, run with the packages' libraries instead of the host's.
fn packaged(packages: &Packages, name: &'static str) -> Result<Tool, Error> {
    let linker =
        packages.library("ld-linux-x86-64.so.2").ok_or(Error::Missing("the dynamic linker"))?;
    let program = packages.program(name).ok_or(Error::Missing(name))?;
    Ok(Tool::new(linker).arg("--library-path").arg(packages.library_path()).arg(program))
}

/// Patches the location of the next part into each part. The core image starts at block `first`.
fn patch(mut boot: Vec<u8>, mut core: Vec<u8>, first: u64) -> Result<BootCode, Error> {
    if boot.len() != BLOCK {
        return Err(Error::Size { part: "boot.img", size: boot.len() });
    }
    core.resize(core.len().next_multiple_of(BLOCK), 0);
    let blocks = core.len() / BLOCK;
    let room = (BLOCKS.end - BLOCKS.start) as usize;
    let Some(rest) = u16::try_from(blocks).ok().and_then(|blocks| blocks.checked_sub(1)) else {
        return Err(Error::Size { part: "core image", size: core.len() });
    };
    if blocks > room || rest == 0 {
        return Err(Error::Size { part: "core image", size: core.len() });
    }
    boot[0x5c..0x64].copy_from_slice(&first.to_le_bytes());
    // Do not guess the drive: a BIOS that boots from a USB stick passes its number.
    boot[0x66..0x68].copy_from_slice(&[0x90, 0x90]);
    boot.truncate(MBR_CODE);
    core[0x1f4..0x1fc].copy_from_slice(&(first + 1).to_le_bytes());
    core[0x1fc..0x1fe].copy_from_slice(&rest.to_le_bytes());
    core[0x1fe..0x200].copy_from_slice(&0x0820u16.to_le_bytes());
    Ok(BootCode { mbr: boot, core })
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: io::Error) -> Error {
    Error::File { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_contains_the_location_of_the_next() {
        let code = patch(vec![0xee; 512], vec![0xcc; 1300], 40).unwrap();
        assert_eq!(code.mbr.len(), MBR_CODE);
        assert_eq!(code.mbr[0x5c..0x64], [40, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(code.mbr[0x65..0x69], [0xee, 0x90, 0x90, 0xee]);
        assert_eq!(code.core.len(), 1536);
        assert_eq!(code.core[0x1f4..0x200], [41, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0x20, 8]);
    }

    #[test]
    fn a_core_that_does_not_fit_is_refused() {
        for size in [0, 512, 2009 * 512, 70_000 * 512] {
            let error = patch(vec![0; 512], vec![0; size], 40);
            assert!(matches!(error, Err(Error::Size { part: "core image", .. })), "{size}");
        }
        let error = patch(vec![0; 440], vec![0; 2048], 40);
        assert!(matches!(error, Err(Error::Size { part: "boot.img", .. })));
    }

    #[test]
    fn the_command_line_reaches_the_kernel_unchanged() {
        let text = configuration("quiet lifeboat.run=\"be list\" a=$b\\c");
        assert!(
            text.contains("linux /lifeboat/vmlinuz quiet lifeboat.run=\"be list\" a=\\$b\\\\c\n")
        );
        assert!(early_configuration(0x0012_cdef).contains(" --fs-uuid 0012-CDEF\n"));
    }
}
