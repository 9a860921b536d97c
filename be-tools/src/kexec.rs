//! `be boot`: kernel, initramfs and command line of a BE, started now.
