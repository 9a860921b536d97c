//! Denies system calls to a command (seccomp(2)). The command keeps CAP_SYS_ADMIN, which GRUB's
//! tools need on btrfs. With that it could mount a devtmpfs, which has every disk, or make
//! /proc/sys writable again.

use libc::sock_filter;

/// `AUDIT_ARCH_X86_64` and `AUDIT_ARCH_I386` of linux/audit.h, each with its numbers of mount(2),
/// umount(2) and umount2(2).
const ARCHITECTURES: [(u32, &[u32]); 2] =
    [(0xc000_003e, &[165, 166]), (0x4000_0003, &[21, 22, 52])];

/// fsopen, fspick, mount_setattr and open_tree_attr. Calls since Linux 5.1 have the same number on
/// every architecture.
const EVERYWHERE: [u32; 4] = [430, 433, 442, 467];

/// The x32 ABI sets this bit in the numbers of x86_64.
const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`.
const CALL: u32 = 0;
const ARCHITECTURE: u32 = 4;

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

/// Makes a filter that denies calls that change mounts, and all calls of other architectures.
pub(super) fn no_mounting() -> Vec<sock_filter> {
    let mut program = Vec::new();
    for (architecture, calls) in ARCHITECTURES {
        let mut body =
            vec![load(CALL), statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, !X32)];
        for call in calls.iter().chain(&EVERYWHERE) {
            body.extend([unless_equal(*call, 1), answer(REFUSE)]);
        }
        body.push(answer(ALLOW));
        program.extend([load(ARCHITECTURE), unless_equal(architecture, body.len() as u8)]);
        program.extend(body);
    }
    program.push(answer(REFUSE));
    program
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn answer(verdict: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, verdict)
}

/// Skips `skipped` statements unless the loaded value is `value`.
fn unless_equal(value: u32, skipped: u8) -> sock_filter {
    sock_filter { jf: skipped, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value) }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
