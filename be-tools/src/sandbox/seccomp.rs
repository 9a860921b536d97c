//! The filter for the system calls of a command (seccomp(2)): what `system_calls.rs` lists is
//! allowed, everything else is refused. A filter is kept across execve(2), and by all descendants.

use libc::{c_long, sock_filter};

use super::system_calls::{ALLOWED, LAST_KNOWN};

/// `AUDIT_ARCH_X86_64` of linux/audit.h.
const X86_64: u32 = 0xc000_003e;

/// The x32 ABI sets this bit in the numbers of x86_64.
const X32: u32 = 0x4000_0000;

/// Offsets in `struct seccomp_data`.
const CALL: u32 = 0;
const ARCHITECTURE: u32 = 4;

/// The offset of the lower half of an argument. The kernel looks at the lower half only, of those
/// arguments that are tested here.
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
const REFUSE: u32 = error(libc::EPERM);
/// What the kernel answers to a call that it does not have.
const UNKNOWN: u32 = error(libc::ENOSYS);
/// What the kernel answers if it has no such sockets. Programs then go on without them.
const NO_SUCH_SOCKET: u32 = error(libc::EAFNOSUPPORT);

const fn error(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number as u32
}

/// The flags of clone(2) and unshare(2) that make a namespace: mnt, cgroup, uts, ipc, user, pid,
/// net. In a user namespace a command would have all capabilities.
const NEW_NAMESPACES: u32 = 0x7e02_0000;
/// CLONE_NEWTIME, which clone(2) does not take.
const NEW_TIME_NAMESPACE: u32 = 0x80;

/// ioctl(2) requests that put text into a terminal's input (TIOCSTI), paste into it (TIOCLINUX) or
/// take the messages of the console (TIOCCONS); that stop a file system (FIFREEZE, FITHAW, and
/// SHUTDOWN of ext4, XFS and others); and that change a block device as a whole (BLKROSET,
/// BLKRRPART, BLKFLSBUF, BLKPG).
const REFUSED_REQUESTS: [u32; 10] =
    [0x5412, 0x541c, 0x541d, 0xc004_5877, 0xc004_5878, 0x8004_587d, 0x125d, 0x125f, 0x1261, 0x1269];

/// The types of ioctl(2) requests, each with the numbers, that a command with CAP_SYS_ADMIN may use
/// besides [`HARMLESS_TYPES`]: for btrfs 'cp --reflink', making and removing subvolumes by their
/// path, and reading (linux/btrfs.h); for all file systems attributes and extents, and the block
/// size (linux/fs.h); of a block device its size, its geometry and the like (linux/fs.h,
/// linux/hdreg.h). A driver of a disk has requests of its own, such as to loop devices and to the
/// controllers of NVMe, and gives this capability the whole disk.
const REQUESTS_FOR_ADMIN: [(u32, &[u32]); 6] = [
    (0x94, &[1, 9, 13, 14, 15, 17, 18, 23, 24, 25, 30, 31, 54, 60, 61, 62]),
    (0x58, &[31, 32]),
    (0x66, &[1, 2, 3, 11, 19, 20, 21, 22]),
    (0x12, &[0x5e, 0x60, 0x68, 0x70, 0x72, 0x78, 0x79, 0x7a, 0x7b, 0x80]),
    (0x03, &[1]),
    (0x00, &[2]),
];

/// The types of the requests of terminals and pipes (asm-generic/ioctls.h) and of sockets
/// (linux/sockios.h).
const HARMLESS_TYPES: [u32; 2] = [0x54, 0x89];

/// The execution domains that personality(2) may set: that of Linux, with a 32-bit machine name,
/// with 2.6 as the kernel's version, with both; and the question for the present one.
const PERSONALITIES: [u32; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Makes the filter. `has_sys_admin` says that the command keeps CAP_SYS_ADMIN.
pub(super) fn filter(has_sys_admin: bool) -> Vec<sock_filter> {
    let mut program = vec![load(ARCHITECTURE)];
    // Programs for 32-bit x86 use other numbers. None of their calls is allowed.
    program.extend([skip_if_equal(X86_64), answer(UNKNOWN)]);
    program.push(load(CALL));
    program.extend([skip_if_below(X32), answer(UNKNOWN)]);
    let call = |number: c_long, body: Vec<sock_filter>| {
        let mut statements = vec![skip_unless_equal(number as u32, body.len())];
        statements.extend(body);
        statements
    };
    program.extend(call(libc::SYS_clone, flags(NEW_NAMESPACES)));
    program.extend(call(libc::SYS_unshare, flags(NEW_NAMESPACES | NEW_TIME_NAMESPACE)));
    // The flags of clone3(2) are in memory, where a filter cannot look.
    program.extend(call(libc::SYS_clone3, vec![answer(UNKNOWN)]));
    program.extend(call(libc::SYS_ioctl, requests(has_sys_admin)));
    program.extend(call(libc::SYS_socket, sockets()));
    program.extend(call(libc::SYS_personality, personalities()));
    for Range { first, last } in ranges(ALLOWED) {
        program.extend([
            skip_if_at_least(first),
            answer(REFUSE),
            skip_if_above(last),
            answer(ALLOW),
        ]);
    }
    program.extend([skip_if_above(LAST_KNOWN as u32), answer(REFUSE), answer(UNKNOWN)]);
    program
}

/// Refuses a call whose first argument has one of these flags.
fn flags(refused: u32) -> Vec<sock_filter> {
    let has_flag = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    let test = sock_filter { jt: 0, jf: 1, ..statement(has_flag, refused) };
    vec![load(argument(0)), test, answer(REFUSE), answer(ALLOW)]
}

fn requests(has_sys_admin: bool) -> Vec<sock_filter> {
    let mut body = vec![load(argument(1))];
    for request in REFUSED_REQUESTS {
        body.extend([skip_unless_equal(request, 1), answer(REFUSE)]);
    }
    if has_sys_admin {
        for (kind, numbers) in REQUESTS_FOR_ADMIN {
            let mut of_kind = vec![load(argument(1)), and(0xff)];
            for number in numbers {
                of_kind.extend([skip_unless_equal(*number, 1), answer(ALLOW)]);
            }
            of_kind.push(answer(REFUSE));
            body.extend([load(argument(1)), and(0xff00)]);
            body.push(skip_unless_equal(kind << 8, of_kind.len()));
            body.extend(of_kind);
        }
        body.extend([load(argument(1)), and(0xff00)]);
        for kind in HARMLESS_TYPES {
            body.extend([skip_unless_equal(kind << 8, 1), answer(ALLOW)]);
        }
        body.push(answer(REFUSE));
        return body;
    }
    body.push(answer(ALLOW));
    body
}

/// Sockets to the hypervisor are refused, because they are not part of the network namespace, and
/// those of the audit system, so that PAM and useradd(8) find that there is none.
fn sockets() -> Vec<sock_filter> {
    const NETLINK_AUDIT: u32 = 9;
    let mut audit = vec![load(argument(2))];
    audit.extend([skip_unless_equal(NETLINK_AUDIT, 1), answer(NO_SUCH_SOCKET)]);
    let mut body = vec![load(argument(0))];
    body.extend([skip_unless_equal(libc::AF_VSOCK as u32, 1), answer(NO_SUCH_SOCKET)]);
    body.push(skip_unless_equal(libc::AF_NETLINK as u32, audit.len()));
    body.extend(audit);
    body.push(answer(ALLOW));
    body
}

fn personalities() -> Vec<sock_filter> {
    let mut body = vec![load(argument(0))];
    for allowed in PERSONALITIES {
        body.extend([skip_unless_equal(allowed, 1), answer(ALLOW)]);
    }
    body.push(answer(REFUSE));
    body
}

/// Numbers that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: u32,
    last: u32,
}

/// The numbers as ranges, in ascending order.
fn ranges(numbers: &[c_long]) -> Vec<Range> {
    let mut numbers: Vec<u32> = numbers.iter().map(|number| *number as u32).collect();
    numbers.sort_unstable();
    let mut ranges: Vec<Range> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(range) if number <= range.last + 1 => range.last = number,
            _ => ranges.push(Range { first: number, last: number }),
        }
    }
    ranges
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn and(mask: u32) -> sock_filter {
    statement(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, mask)
}

fn answer(verdict: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, verdict)
}

/// Skips as many statements unless the loaded value is `value`.
fn skip_unless_equal(value: u32, skipped: usize) -> sock_filter {
    // The longest body has some 80 statements.
    let skipped = u8::try_from(skipped).unwrap_or(u8::MAX);
    sock_filter { jf: skipped, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value) }
}

/// Skips the next statement if the loaded value is `value`.
fn skip_if_equal(value: u32) -> sock_filter {
    sock_filter { jt: 1, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value) }
}

/// Skips the next statement if the loaded value is at least `value`.
fn skip_if_at_least(value: u32) -> sock_filter {
    sock_filter { jt: 1, ..statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, value) }
}

/// Skips the next statement if the loaded value is smaller than `value`.
fn skip_if_below(value: u32) -> sock_filter {
    sock_filter { jf: 1, ..statement(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, value) }
}

/// Skips the next statement if the loaded value is greater than `value`.
fn skip_if_above(value: u32) -> sock_filter {
    sock_filter { jt: 1, ..statement(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, value) }
}

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A system call as the kernel hands it to a filter.
    #[derive(Clone, Copy)]
    struct Call {
        architecture: u32,
        number: u32,
        arguments: [u32; 3],
    }

    fn call(number: c_long, arguments: [u32; 3]) -> Call {
        Call { architecture: X86_64, number: number as u32, arguments }
    }

    /// Runs a filter as bpf(4) says.
    fn judge(program: &[sock_filter], call: Call) -> u32 {
        let (mut loaded, mut at) = (0u32, 0usize);
        loop {
            let statement = program[at];
            at += 1;
            let code = u32::from(statement.code);
            let jump = |holds| usize::from(if holds { statement.jt } else { statement.jf });
            match code {
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    loaded = match statement.k {
                        CALL => call.number,
                        ARCHITECTURE => call.architecture,
                        offset => call.arguments[((offset - 16) / 8) as usize],
                    };
                }
                c if c == libc::BPF_ALU | libc::BPF_AND | libc::BPF_K => loaded &= statement.k,
                c if c == libc::BPF_RET | libc::BPF_K => return statement.k,
                c if c == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    at += jump(loaded == statement.k);
                }
                c if c == libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K => {
                    at += jump(loaded >= statement.k);
                }
                c if c == libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K => {
                    at += jump(loaded > statement.k);
                }
                c if c == libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K => {
                    at += jump(loaded & statement.k != 0);
                }
                other => panic!("{other:#x}"),
            }
        }
    }

    #[test]
    fn only_what_is_listed_is_allowed() {
        let program = filter(false);
        assert!(program.len() < 4096, "the kernel takes no more: {}", program.len());
        let decided = [
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_unshare,
            libc::SYS_ioctl,
            libc::SYS_socket,
            libc::SYS_personality,
        ];
        for number in (0..=LAST_KNOWN).filter(|number| !decided.contains(number)) {
            let expected = if ALLOWED.contains(&number) { ALLOW } else { REFUSE };
            assert_eq!(judge(&program, call(number, [0; 3])), expected, "{number}");
        }
        for number in [LAST_KNOWN + 1, 600, 5000] {
            assert_eq!(judge(&program, call(number, [0; 3])), UNKNOWN, "{number}");
        }
    }

    #[test]
    fn what_reaches_beyond_the_command_is_not_listed() {
        let calls = [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
            467, // open_tree_attr
            libc::SYS_pivot_root,
            libc::SYS_setns,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_reboot,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_ptrace,
            libc::SYS_process_vm_writev,
            libc::SYS_pidfd_getfd,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_syslog,
            libc::SYS_open_by_handle_at,
            libc::SYS_quotactl,
            libc::SYS_iopl,
            libc::SYS_ioperm,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_io_uring_setup,
            libc::SYS_userfaultfd,
            libc::SYS_vhangup,
            libc::SYS_sethostname,
        ];
        for program in [filter(false), filter(true)] {
            for number in calls {
                assert_eq!(judge(&program, call(number, [0; 3])), REFUSE, "{number}");
            }
        }
    }

    #[test]
    fn arguments_decide_about_some_calls() {
        const CLONE_NEWUSER: u32 = 0x1000_0000;
        const FICLONE: u32 = 0x4004_9409;
        const TREE_SEARCH: u32 = 0xd000_9411;
        const REMOVE_DEVICE: u32 = 0x5000_940b;
        const DESTROY_BY_ID: u32 = 0x5000_943f;
        const TCGETS: u32 = 0x5401;
        for (name, number, arguments, without, with) in [
            ("fork", libc::SYS_clone, [17, 0, 0], ALLOW, ALLOW),
            ("thread", libc::SYS_clone, [0x003d_0f00, 0, 0], ALLOW, ALLOW),
            ("user namespace", libc::SYS_clone, [CLONE_NEWUSER | 17, 0, 0], REFUSE, REFUSE),
            ("unshare user", libc::SYS_unshare, [CLONE_NEWUSER, 0, 0], REFUSE, REFUSE),
            ("unshare time", libc::SYS_unshare, [NEW_TIME_NAMESPACE, 0, 0], REFUSE, REFUSE),
            ("unshare files", libc::SYS_unshare, [0x400, 0, 0], ALLOW, ALLOW),
            ("clone3", libc::SYS_clone3, [0, 0, 0], UNKNOWN, UNKNOWN),
            ("TIOCSTI", libc::SYS_ioctl, [0, 0x5412, 0], REFUSE, REFUSE),
            ("TIOCLINUX", libc::SYS_ioctl, [0, 0x541c, 0], REFUSE, REFUSE),
            ("freeze", libc::SYS_ioctl, [0, 0xc004_5877, 0], REFUSE, REFUSE),
            ("shutdown", libc::SYS_ioctl, [0, 0x8004_587d, 0], REFUSE, REFUSE),
            ("TCGETS", libc::SYS_ioctl, [0, TCGETS, 0], ALLOW, ALLOW),
            ("reflink", libc::SYS_ioctl, [0, FICLONE, 0], ALLOW, ALLOW),
            ("tree search", libc::SYS_ioctl, [0, TREE_SEARCH, 0], ALLOW, ALLOW),
            ("remove device", libc::SYS_ioctl, [0, REMOVE_DEVICE, 0], ALLOW, REFUSE),
            ("destroy by id", libc::SYS_ioctl, [0, DESTROY_BY_ID, 0], ALLOW, REFUSE),
            ("flags", libc::SYS_ioctl, [0, 0x8008_6601, 0], ALLOW, ALLOW),
            ("loop device", libc::SYS_ioctl, [0, 0x4c04, 0], ALLOW, REFUSE),
            ("NVMe command", libc::SYS_ioctl, [0, 0xc048_4e41, 0], ALLOW, REFUSE),
            ("array", libc::SYS_ioctl, [0, 0x0932, 0], ALLOW, REFUSE),
            ("size of a device", libc::SYS_ioctl, [0, 0x8008_1272, 0], ALLOW, ALLOW),
            ("bytes in a pipe", libc::SYS_ioctl, [0, 0x541b, 0], ALLOW, ALLOW),
            ("vsock", libc::SYS_socket, [40, 1, 0], NO_SUCH_SOCKET, NO_SUCH_SOCKET),
            ("audit", libc::SYS_socket, [16, 3, 9], NO_SUCH_SOCKET, NO_SUCH_SOCKET),
            ("netlink", libc::SYS_socket, [16, 3, 0], ALLOW, ALLOW),
            ("unix", libc::SYS_socket, [1, 1, 0], ALLOW, ALLOW),
            ("linux32", libc::SYS_personality, [8, 0, 0], ALLOW, ALLOW),
            ("no randomization", libc::SYS_personality, [0x4_0000, 0, 0], REFUSE, REFUSE),
        ] {
            // Without CAP_SYS_ADMIN the kernel itself refuses what it is for.
            assert_eq!(judge(&filter(false), call(number, arguments)), without, "{name}");
            assert_eq!(judge(&filter(true), call(number, arguments)), with, "{name}");
        }
    }

    #[test]
    fn calls_of_other_architectures_are_refused() {
        let program = filter(false);
        let read = call(libc::SYS_read, [0; 3]);
        assert_eq!(judge(&program, read), ALLOW);
        let i386 = Call { architecture: 0x4000_0003, ..read };
        let x32 = Call { number: X32 | read.number, ..read };
        for call in [i386, x32] {
            assert_eq!(judge(&program, call), UNKNOWN);
        }
    }
}
