//! System calls that no crate wraps.
#![allow(unsafe_code, reason = "kexec_file_load has no safe wrapper")]

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// `KEXEC_FILE_NO_INITRAMFS` of `linux/kexec.h`.
const NO_INITRAMFS: libc::c_ulong = 4;

/// kexec_file_load(2).
pub(crate) fn kexec_file_load(
    kernel: &File,
    initrd: Option<&File>,
    command_line: &CStr,
) -> io::Result<()> {
    let no_file: RawFd = -1;
    let flags: libc::c_ulong = if initrd.is_some() { 0 } else { NO_INITRAMFS };
    // SAFETY: the descriptors live as long as their borrowed files, and the kernel
    // reads exactly the length given, NUL included, from a live C string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.map_or(no_file, AsRawFd::as_raw_fd),
            command_line.to_bytes_with_nul().len(),
            command_line.as_ptr(),
            flags,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
