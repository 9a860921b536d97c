//! All `unsafe` code of this crate.
#![allow(unsafe_code, reason = "system calls without a safe wrapper")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::mount::MountFlags;

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct FileAttributes {
    /// FS_XFLAG_…
    pub flags: u32,
    extent_size: u32,
    extents: u32,
    /// Project id.
    pub project: u32,
    cow_extent_size: u32,
    padding: [u8; 8],
}

const FS_IOC_FSGETXATTR: libc::c_ulong = 0x801c_581f;
const FS_IOC_FSSETXATTR: libc::c_ulong = 0x401c_5820;
const FS_IOC_FIEMAP: libc::c_ulong = 0xc020_660b;

fn errno(result: libc::c_int) -> Result<(), Errno> {
    if result == 0 {
        Ok(())
    } else {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    }
}

/// FS_IOC_FSGETXATTR of ioctl_xfs_fsgetxattr(2).
pub fn file_attributes(fd: &OwnedFd) -> Result<FileAttributes, Errno> {
    let mut attributes = FileAttributes::default();
    // SAFETY: the kernel writes one `struct fsxattr`, which has the layout of `FileAttributes`.
    errno(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSGETXATTR, &raw mut attributes) })?;
    Ok(attributes)
}

/// FS_IOC_FSSETXATTR of ioctl_xfs_fssetxattr(2).
pub fn set_file_attributes(fd: &OwnedFd, attributes: FileAttributes) -> Result<(), Errno> {
    // SAFETY: the kernel reads one `struct fsxattr`, which has the layout of `FileAttributes`.
    errno(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FSSETXATTR, &raw const attributes) })
}

/// `struct fiemap_extent` of linux/fiemap.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Extent {
    /// Bytes from the beginning of the file.
    pub logical: u64,
    /// Bytes from the beginning of the device.
    pub physical: u64,
    /// Bytes.
    pub length: u64,
    reserved64: [u64; 2],
    /// FIEMAP_EXTENT_…
    pub flags: u32,
    reserved: [u32; 3],
}

#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [Extent; 64],
}

/// The first extents of a file from offset `start` on, at most 64 of them (FS_IOC_FIEMAP).
pub fn extents(fd: &OwnedFd, start: u64, length: u64) -> Result<Vec<Extent>, Errno> {
    let mut map = Fiemap {
        start,
        length,
        flags: 0,
        mapped: 0,
        count: 64,
        reserved: 0,
        extents: [Extent::default(); 64],
    };
    // SAFETY: the kernel writes at most `count` extents after the header, and the array has room
    // for 64.
    errno(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_FIEMAP, &raw mut map) })?;
    let mapped = usize::try_from(map.mapped).unwrap_or(0).min(map.extents.len());
    Ok(map.extents[..mapped].to_vec())
}

/// Forks a process that has only one thread, so that the child may call any function. Returns
/// `None` in the child.
pub fn fork_single_threaded() -> std::io::Result<Option<nix::unistd::Pid>> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(std::io::Error::other("this process has several threads"));
    }
    // SAFETY: no other thread exists that could hold a lock in the child.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(Some(child)),
        nix::unistd::ForkResult::Child => Ok(None),
    }
}

/// Filters the system calls of this thread and of all its descendants (seccomp(2)). Needs
/// CAP_SYS_ADMIN.
pub fn set_filter(program: &mut [libc::sock_filter]) -> std::io::Result<()> {
    let len = u16::try_from(program.len()).map_err(std::io::Error::other)?;
    let program = libc::sock_fprog { len, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads `len` statements at the pointer, which outlive the call.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns: u64,
}

/// An option of a mount (linux/mount.h).
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub enum MountOption {
    /// MOUNT_ATTR_RDONLY
    ReadOnly = 1,
    /// MOUNT_ATTR_NODEV
    NoDevices = 4,
}

/// Sets an option of the mount at a path and of all mounts below it. Other options are kept
/// (mount_setattr(2)).
pub fn set_mount_option(path: &std::path::Path, option: MountOption) -> std::io::Result<()> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()))?;
    let attributes = MountAttributes { set: option as u64, ..MountAttributes::default() };
    mount_setattr(libc::AT_FDCWD, &path, libc::AT_RECURSIVE, &attributes)
}

/// The options of a mount in linux/mount.h, and those for mount(2) that are the same.
const MOUNT_ATTRIBUTES: [(u64, MountFlags); 6] = [
    (0x01, MountFlags::RDONLY),
    (0x02, MountFlags::NOSUID),
    (0x04, MountFlags::NODEV),
    (0x08, MountFlags::NOEXEC),
    (0x10, MountFlags::NOATIME),
    (0x80, MountFlags::NODIRATIME),
];

/// MOUNT_ATTR__ATIME: the bits of which one choice of access times is set.
const MOUNT_ATTR_ATIME: u64 = 0x70;

/// Gives the mount whose root directory is open these options, and no others of the list above.
pub fn restrict_mount(mount: &OwnedFd, flags: MountFlags) -> std::io::Result<()> {
    let bits = |pick: &dyn Fn(MountFlags) -> bool| {
        MOUNT_ATTRIBUTES.iter().filter(|(_, flag)| pick(*flag)).map(|(bit, _)| bit).sum::<u64>()
    };
    let attributes = MountAttributes {
        set: bits(&|flag| flags.contains(flag)),
        clear: bits(&|flag| !flags.contains(flag)) | MOUNT_ATTR_ATIME,
        ..MountAttributes::default()
    };
    mount_setattr(mount.as_raw_fd(), c"", libc::AT_EMPTY_PATH, &attributes)
}

/// Keeps later mounts below the mount whose root directory is open from propagating, both ways.
pub fn make_mount_private(mount: &OwnedFd) -> std::io::Result<()> {
    let attributes =
        MountAttributes { propagation: libc::MS_PRIVATE, ..MountAttributes::default() };
    mount_setattr(mount.as_raw_fd(), c"", libc::AT_EMPTY_PATH, &attributes)
}

fn mount_setattr(
    directory: libc::c_int,
    path: &CStr,
    flags: libc::c_int,
    attributes: &MountAttributes,
) -> std::io::Result<()> {
    // SAFETY: path and attributes outlive the call, and the size is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attributes),
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// What the kernel says of a subvolume of a btrfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubvolumeInfo {
    /// Its id.
    pub id: u64,
    /// Nothing can be written to it (btrfs-subvolume(8), "SUBVOLUME FLAGS").
    pub read_only: bool,
}

/// `struct btrfs_ioctl_get_subvol_info_args` of linux/btrfs.h.
#[repr(C)]
struct SubvolumeArguments {
    id: u64,
    name: [u8; 256],
    parent: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    uuids: [[u8; 16]; 3],
    transactions: [u64; 4],
    times: [u64; 8],
    reserved: [u64; 8],
}

const BTRFS_IOC_GET_SUBVOL_INFO: libc::c_ulong = 0x81f8_943c;
const BTRFS_ROOT_SUBVOL_RDONLY: u64 = 1;

/// The subvolume of a btrfs that an open directory is in (BTRFS_IOC_GET_SUBVOL_INFO).
pub fn subvolume_info(directory: &OwnedFd) -> Result<SubvolumeInfo, Errno> {
    let mut arguments = SubvolumeArguments {
        id: 0,
        name: [0; 256],
        parent: 0,
        directory: 0,
        generation: 0,
        flags: 0,
        uuids: [[0; 16]; 3],
        transactions: [0; 4],
        times: [0; 8],
        reserved: [0; 8],
    };
    // SAFETY: the kernel writes one structure of this size, which the number of the call has too.
    let result = unsafe {
        libc::ioctl(directory.as_raw_fd(), BTRFS_IOC_GET_SUBVOL_INFO, &raw mut arguments)
    };
    // It returns 1 for a subvolume other than the top level.
    errno(result.min(0))?;
    let read_only = arguments.flags & BTRFS_ROOT_SUBVOL_RDONLY != 0;
    Ok(SubvolumeInfo { id: arguments.id, read_only })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel() {
        assert_eq!(size_of::<SubvolumeArguments>(), 504);
        // The size is in the number of the call (asm-generic/ioctl.h).
        let size = usize::try_from(BTRFS_IOC_GET_SUBVOL_INFO >> 16 & 0x3fff).unwrap();
        assert_eq!(size, size_of::<SubvolumeArguments>());
        assert_eq!(size_of::<MountAttributes>(), 32);
    }
}
