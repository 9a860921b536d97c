//! The formats that firmware and boot loaders read: EFI variables and load options, files on an EFI
//! system partition, boot loader entries, GRUB's environment block and menu, a system's boot menu as a
//! whole, unified kernel images, and kernel command lines. Also kexec.
//!
//! Parsing and rendering are pure functions on bytes and strings that never panic, whatever the
//! input. Functions that touch the system take the directory to work under, so that tests can pass
//! a temporary one.

pub mod bls;
pub mod bzimage;
pub mod command_line;
pub mod efi;
pub mod esp;
pub mod grub_cfg;
pub mod grubenv;
pub mod kexec;
pub mod menu;
pub mod pe;
mod sys;
pub mod uki;
