//! The rescue image: kernel, modules, tools and one static binary, made into an initramfs, a
//! unified kernel image and a disk image. Without root, and with the host left as it was.

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
