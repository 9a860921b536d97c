//! All `unsafe` code of this crate.
#![allow(unsafe_code, reason = "system calls without a safe wrapper")]

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

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

/// BLKGETDISKSEQ of linux/fs.h.
const BLKGETDISKSEQ: libc::c_ulong = 0x8008_1280;

/// The disk sequence number of an open block device or of its disk; `None` before Linux 5.15.
pub fn disk_sequence(device: &std::fs::File) -> Option<u64> {
    let mut sequence = 0_u64;
    // SAFETY: the kernel writes one 64-bit number.
    errno(unsafe { libc::ioctl(device.as_raw_fd(), BLKGETDISKSEQ, &raw mut sequence) }).ok()?;
    Some(sequence)
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

/// `struct btrfs_ioctl_get_subvol_info_args` of linux/btrfs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SubvolumeInfo {
    tree: u64,
    name: [u8; 256],
    parent_tree: u64,
    directory: u64,
    generation: u64,
    flags: u64,
    uuid: [u8; 16],
    parent_uuid: [u8; 16],
    received_uuid: [u8; 16],
    transactions: [u64; 4],
    times: [[u64; 2]; 4],
    reserved: [u64; 8],
}

impl SubvolumeInfo {
    /// Its id.
    pub fn id(&self) -> u64 {
        self.tree
    }

    /// BTRFS_ROOT_SUBVOL_RDONLY is set.
    pub fn is_read_only(&self) -> bool {
        self.flags & 1 != 0
    }

    /// Its UUID; zeros at the top level of an old btrfs.
    pub fn uuid(&self) -> [u8; 16] {
        self.uuid
    }

    /// The UUID of the one that it was made from as a snapshot; zeros if it is none.
    pub fn parent_uuid(&self) -> [u8; 16] {
        self.parent_uuid
    }

    /// It was made by receiving a stream.
    pub fn is_received(&self) -> bool {
        self.received_uuid != [0; 16]
    }
}

const BTRFS_IOC_GET_SUBVOL_INFO: libc::c_ulong = 0x81f8_943c;
const BTRFS_IOC_SUBVOL_GETFLAGS: libc::c_ulong = 0x8008_9419;
const BTRFS_IOC_SUBVOL_SETFLAGS: libc::c_ulong = 0x4008_941a;
/// BTRFS_SUBVOL_RDONLY of both.
const SUBVOLUME_READ_ONLY: u64 = 2;

/// The subvolume that holds a directory (BTRFS_IOC_GET_SUBVOL_INFO).
pub fn subvolume(directory: &OwnedFd) -> Result<SubvolumeInfo, Errno> {
    let mut info = SubvolumeInfo {
        tree: 0,
        name: [0; 256],
        parent_tree: 0,
        directory: 0,
        generation: 0,
        flags: 0,
        uuid: [0; 16],
        parent_uuid: [0; 16],
        received_uuid: [0; 16],
        transactions: [0; 4],
        times: [[0; 2]; 4],
        reserved: [0; 8],
    };
    const { assert!(size_of::<SubvolumeInfo>() == 504) };
    // SAFETY: the kernel writes one `struct btrfs_ioctl_get_subvol_info_args`, whose size is part
    // of the request's number, and which has the layout of `SubvolumeInfo`.
    let result =
        unsafe { libc::ioctl(directory.as_raw_fd(), BTRFS_IOC_GET_SUBVOL_INFO, &raw mut info) };
    // Linux returns 1 for every subvolume but the top level: what its search in a tree returned.
    errno(result.min(0))?;
    Ok(info)
}

/// Clears the flag that makes a subvolume read-only, given its root directory.
pub fn make_subvolume_writable(root: &OwnedFd) -> Result<(), Errno> {
    let mut flags = 0_u64;
    // SAFETY: the kernel writes one u64.
    errno(unsafe { libc::ioctl(root.as_raw_fd(), BTRFS_IOC_SUBVOL_GETFLAGS, &raw mut flags) })?;
    flags &= !SUBVOLUME_READ_ONLY;
    // SAFETY: the kernel reads one u64.
    errno(unsafe { libc::ioctl(root.as_raw_fd(), BTRFS_IOC_SUBVOL_SETFLAGS, &raw const flags) })
}

/// `struct fscrypt_get_policy_ex_arg` of linux/fscrypt.h.
#[repr(C)]
pub struct EncryptionPolicy {
    size: u64,
    policy: [u8; 24],
}

impl EncryptionPolicy {
    /// What identifies the key, in a policy of version 2.
    pub fn key_identifier(&self) -> Option<[u8; 16]> {
        let (head, identifier) = self.policy.split_at(8);
        (head[0] == 2).then(|| identifier.try_into().ok()).flatten()
    }
}

/// `struct fscrypt_get_key_status_arg` of linux/fscrypt.h.
#[repr(C)]
#[derive(Default)]
struct KeyStatus {
    kind: u32,
    reserved: u32,
    identifier: [u8; 16],
    rest_of_identifier: [u8; 16],
    reserved_too: [u32; 6],
    status: u32,
    answer: [u32; 15],
}

const FS_IOC_GET_ENCRYPTION_POLICY_EX: libc::c_ulong = 0xc009_6616;
const FS_IOC_GET_ENCRYPTION_KEY_STATUS: libc::c_ulong = 0xc080_661a;
const FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER: u32 = 2;
/// FSCRYPT_KEY_STATUS_ABSENT
pub const KEY_ABSENT: u32 = 1;

/// The encryption policy of a file or directory.
pub fn encryption_policy(fd: &OwnedFd) -> Result<EncryptionPolicy, Errno> {
    let mut policy = EncryptionPolicy { size: 24, policy: [0; 24] };
    // SAFETY: the kernel writes at most `size` bytes after it, and the array has room for them.
    errno(unsafe {
        libc::ioctl(fd.as_raw_fd(), FS_IOC_GET_ENCRYPTION_POLICY_EX, &raw mut policy)
    })?;
    Ok(policy)
}

/// FSCRYPT_KEY_STATUS_… of a key, on the file system that has this file or directory.
pub fn encryption_key_status(fd: &OwnedFd, identifier: [u8; 16]) -> Result<u32, Errno> {
    let mut key =
        KeyStatus { kind: FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER, identifier, ..KeyStatus::default() };
    const { assert!(size_of::<KeyStatus>() == 128) };
    // SAFETY: the kernel writes one `struct fscrypt_get_key_status_arg`, whose size is part of the
    // request's number, and which has the layout of `KeyStatus`.
    errno(unsafe { libc::ioctl(fd.as_raw_fd(), FS_IOC_GET_ENCRYPTION_KEY_STATUS, &raw mut key) })?;
    Ok(key.status)
}

/// FIFREEZE and FITHAW of linux/fs.h.
const FIFREEZE: libc::c_ulong = 0xc004_5877;
const FITHAW: libc::c_ulong = 0xc004_5878;

/// Freezes the file system of a directory and thaws it at once. A child process does both, with all
/// signals blocked: whatever ends this process, the file system does not stay frozen.
pub fn freeze_and_thaw(directory: &OwnedFd) -> std::io::Result<()> {
    use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
    use nix::sys::wait::{WaitStatus, waitpid};
    let mut before = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), Some(&mut before))?;
    // SAFETY: the child only calls ioctl(2) and _exit(2), which a child of several threads may.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: as above. `__errno_location` is where ioctl(2) left its error.
        unsafe {
            let mut result = libc::ioctl(directory.as_raw_fd(), FIFREEZE, 0);
            let error = *libc::__errno_location();
            if result == 0 {
                result = libc::ioctl(directory.as_raw_fd(), FITHAW, 0);
            } else if error == libc::EBUSY {
                // Another program has frozen it.
                result = 0;
            }
            libc::_exit(if result == 0 { 0 } else { *libc::__errno_location() });
        }
    }
    let forked = if child < 0 { Err(std::io::Error::last_os_error()) } else { Ok(()) };
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None)?;
    forked?;
    loop {
        match waitpid(nix::unistd::Pid::from_raw(child), None) {
            Err(nix::errno::Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
            Ok(WaitStatus::Exited(_, error)) => {
                return Err(std::io::Error::from_raw_os_error(error));
            }
            Ok(_) => return Err(std::io::Error::other("the child was killed")),
            Err(error) => return Err(error.into()),
        }
    }
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

/// Ends this process with `status` when the signal arrives while `interrupted` is set, unless
/// `paused` is above 0.
pub fn exit_on_second(
    signal: libc::c_int,
    status: libc::c_int,
    interrupted: Arc<AtomicBool>,
    paused: &'static AtomicUsize,
) -> std::io::Result<()> {
    let action = move || {
        if interrupted.load(Ordering::SeqCst) && paused.load(Ordering::SeqCst) == 0 {
            signal_hook::low_level::exit(status);
        }
    };
    // SAFETY: the action only reads atomic variables and calls _exit(2), which a signal handler may
    // do. The last owner of `interrupted` is never dropped in it.
    unsafe { signal_hook::low_level::register(signal, action) }.map(drop)
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

fn last_error(result: libc::c_long) -> std::io::Result<libc::c_long> {
    if result < 0 { Err(std::io::Error::last_os_error()) } else { Ok(result) }
}

/// Replaces the session keyring of this process by a new, empty one (keyctl(2),
/// KEYCTL_JOIN_SESSION_KEYRING). Does nothing on a kernel without keyrings.
pub fn join_new_session_keyring() -> std::io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let anonymous = std::ptr::null::<libc::c_char>();
    // SAFETY: the kernel accepts a null pointer as the name of an anonymous keyring.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, anonymous) };
    match last_error(result) {
        Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
        other => other.map(drop),
    }
}

/// Closes every file descriptor from `first` on when this process executes a program
/// (close_range(2)).
pub fn close_on_exec_from(first: u32) -> std::io::Result<()> {
    const CLOEXEC: libc::c_uint = 4;
    // SAFETY: the call has no pointers, and closes nothing now.
    last_error(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOEXEC) }).map(drop)
}

/// Closes every file descriptor from `first` on, in a child of [`fork_single_threaded`] that drops
/// nothing which was made before the fork, because it ends with exit(3).
pub fn close_inherited_from(first: u32) -> std::io::Result<()> {
    // SAFETY: as the caller promises, no owner of these descriptors uses or closes them any more.
    last_error(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// Sets the loopback interface of this network namespace up (netdevice(7)).
pub fn bring_up_loopback() -> std::io::Result<()> {
    /// The part of `struct ifreq` that has flags.
    #[repr(C)]
    struct InterfaceFlags {
        name: [u8; libc::IFNAMSIZ],
        flags: libc::c_short,
        padding: [u8; 22],
    }
    // SAFETY: the call has no pointers.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    last_error(socket.into())?;
    // SAFETY: the descriptor was just opened, and nothing else owns it.
    let socket = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(socket) };
    let mut request = InterfaceFlags {
        name: [0; libc::IFNAMSIZ],
        flags: libc::IFF_UP as libc::c_short,
        padding: [0; 22],
    };
    request.name[..2].copy_from_slice(b"lo");
    // SAFETY: the kernel reads one `struct ifreq`, which is as large as `InterfaceFlags`.
    errno(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) })
        .map_err(std::io::Error::from)
}

/// Makes the program that `command` starts the leader of a new session (setsid(2)). If a terminal
/// is given, it becomes the controlling one; it must stay open until the program has started.
pub fn lead_session(command: &mut std::process::Command, terminal: Option<std::os::fd::RawFd>) {
    let prepare = move || {
        // SAFETY: setsid(2), signal(2) and ioctl(2) may be called between fork(2) and execve(2),
        // and take no pointers here.
        unsafe {
            libc::signal(libc::SIGTTIN, libc::SIG_DFL);
            last_error(libc::setsid().into())?;
            match terminal {
                Some(terminal) => {
                    last_error(libc::ioctl(terminal, libc::TIOCSCTTY, 0).into()).map(drop)
                }
                None => Ok(()),
            }
        }
    };
    // SAFETY: `prepare` only calls what may be called there, and allocates nothing.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, prepare) };
}

/// Ignores SIGTTIN, so that reading from a terminal in the background fails with EIO instead of
/// stopping this process.
pub fn ignore_background_reads() {
    // SAFETY: SIG_IGN is no function that could be called.
    unsafe { libc::signal(libc::SIGTTIN, libc::SIG_IGN) };
}

/// An instruction of eBPF (linux/bpf.h, `struct bpf_insn`).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BpfInstruction {
    /// The operation.
    pub code: u8,
    /// The destination register in the low four bits, the source register in the others.
    pub registers: u8,
    /// The offset of a jump or in memory.
    pub offset: i16,
    /// The constant.
    pub immediate: i32,
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> std::io::Result<libc::c_long> {
    // SAFETY: the kernel reads as many bytes as it is told, which are those of `attributes`.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    last_error(result)
}

/// Loads a program that decides about devices (bpf(2), BPF_PROG_TYPE_CGROUP_DEVICE).
pub fn load_device_program(program: &[BpfInstruction]) -> std::io::Result<OwnedFd> {
    /// The attributes of BPF_PROG_LOAD.
    #[repr(C)]
    struct Load {
        program_type: u32,
        instruction_count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
    }
    const PROG_LOAD: libc::c_long = 5;
    const CGROUP_DEVICE: u32 = 15;
    let attributes = Load {
        program_type: CGROUP_DEVICE,
        instruction_count: u32::try_from(program.len()).map_err(std::io::Error::other)?,
        instructions: program.as_ptr() as u64,
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
    };
    let loaded = i32::try_from(bpf(PROG_LOAD, &attributes)?).map_err(std::io::Error::other)?;
    // SAFETY: the kernel returned a new descriptor, and nothing else owns it.
    Ok(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(loaded) })
}

/// Lets a program of [`load_device_program`] decide for a control group, in addition to those of
/// the groups above it.
pub fn attach_device_program(group: &OwnedFd, program: &OwnedFd) -> std::io::Result<()> {
    /// The attributes of BPF_PROG_ATTACH.
    #[repr(C)]
    struct Attach {
        target: u32,
        program: u32,
        attach_type: u32,
        flags: u32,
    }
    const PROG_ATTACH: libc::c_long = 8;
    const CGROUP_DEVICE: u32 = 6;
    const ALLOW_MULTI: u32 = 2;
    let attributes = Attach {
        target: group.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        attach_type: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    bpf(PROG_ATTACH, &attributes).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_have_the_sizes_of_the_kernel() {
        // The size is in the number of the call (asm-generic/ioctl.h).
        let size = usize::try_from(BTRFS_IOC_GET_SUBVOL_INFO >> 16 & 0x3fff).unwrap();
        assert_eq!(size, size_of::<SubvolumeInfo>());
        assert_eq!(size_of::<MountAttributes>(), 32);
    }
}
