//! Builds the rescue image: an initramfs, a unified kernel image and a disk image from a kernel,
//! its modules, file system tools and one static binary. Needs no root and does not change the
//! host.

pub mod apt;
pub mod bios;
pub mod cli;
pub mod disk;
pub mod elf;
pub mod families;
pub mod fat;
pub mod image;
pub mod initramfs;
pub mod modules;
pub mod packages;
pub mod programs;
pub mod report;
pub mod tool;
