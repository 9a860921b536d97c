//! `be boot`: kernel, initramfs and command line of a BE, started now by kexec(2).

mod choice;

pub use choice::{Choice, choose};
