//! Runs commands inside a real Debian, which is made from packages.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod loop_device;

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use be_tools::Error;
use be_tools::sandbox::{Inside, Limits, use_program};
use be_tools::tool::ToolError;
use loop_device::{Mounted, root, sh};

/// One test at a time uses the Debian. In production, the lock of `be` ensures that.
static DEBIAN: Mutex<()> = Mutex::new(());

/// A minimal Debian with apt, made once and kept in the target directory.
fn debian() -> (PathBuf, MutexGuard<'static, ()>) {
    let guard = DEBIAN.lock().unwrap_or_else(PoisonError::into_inner);
    use_program(env!("CARGO_BIN_EXE_be"));
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let debian = cache.join("debian-apt");
    if !debian.exists() {
        let fresh = cache.join("debian-apt.new");
        let _ = fs::remove_dir_all(&fresh);
        let made = Command::new("mmdebstrap")
            .args(["--quiet", "--variant=apt", "bookworm"])
            .arg(&fresh)
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        fs::rename(&fresh, &debian).unwrap();
    }
    (debian, guard)
}

fn inside(root: &Path) -> Inside<'_> {
    Inside::new(root, &[])
}

fn words(command: &[&str]) -> Vec<OsString> {
    command.iter().map(OsString::from).collect()
}

/// Runs a shell script. Returns its exit status and everything that it printed.
fn script(inside: &Inside<'_>, script: &str) -> (i32, String) {
    let out = inside.capture(&words(&["sh", "-c", script])).unwrap();
    let text = [out.stdout, out.stderr].concat();
    (out.status.code().unwrap(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn programs_run_with_the_usual_environment_and_can_write() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let (status, text) = script(
        &inside(&debian),
        "apt-get --version && dpkg --audit && touch /srv/touched && id -u",
    );
    assert!(
        status == 0 && text.starts_with("apt 2.6") && text.ends_with("\n0\n"),
        "{status} {text}"
    );
    fs::remove_file(debian.join("srv/touched")).unwrap();
    let (status, text) = script(&inside(&debian), "echo $PATH $HOME $DEBIAN_FRONTEND; pwd; umask");
    assert_eq!(status, 0);
    assert_eq!(
        text,
        "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin /root noninteractive\n\
        /\n0022\n"
    );
}

#[test]
fn exit_statuses_are_those_of_env() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    for (command, status) in [
        (&["true"][..], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["no-such-program"], 127),
        (&["/etc/passwd"], 126),
    ] {
        assert_eq!(inside(&debian).run(&words(command)).unwrap(), status, "{command:?}");
    }
    assert_eq!(inside(Path::new("/no/such/root")).run(&words(&["true"])).ok(), None);
}

#[test]
fn a_command_cannot_change_the_machine() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let at = inside(&debian);
    for (what, refused) in [
        ("echo 1 >/proc/sys/kernel/printk_delay", "Read-only file system"),
        // A kernel without the magic SysRq key does not have this file.
        ("echo h >/proc/sysrq-trigger", "Read-only file system|nonexistent"),
        ("mkdir /sys/fs/x", "Operation not permitted|Read-only file system"),
        ("date -s 2001-01-01", "Operation not permitted"),
        // reboot(2), which is refused because the capability is missing.
        (
            "perl -e 'exit(syscall(169, 0xfee1dead, 672274793, 0, 0) == 0 ? 0 : print \"$!\\n\")'",
            "Operation not permitted",
        ),
    ] {
        let (status, text) = script(&at, what);
        assert!(
            status != 0 && refused.split('|').any(|words| text.contains(words)),
            "{what}: {status} {text}"
        );
    }
    let (_, mounts) = script(
        &at,
        "cut -d' ' -f5 /proc/self/mountinfo | grep -v '^/proc/\\|^/sys/' | sort -u | tr '\\n' ' '",
    );
    assert_eq!(mounts, "/ /dev /dev/pts /dev/shm /proc /run /sys /tmp ");
    let (_, seen) = script(
        &at,
        "ls /dev | tr '\\n' ' '; ls -A /tmp | wc -l; ls /run; ls /proc | grep -c '^[0-9]*$'",
    );
    let expected =
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 0\nlifeboat\nlock\n";
    assert!(seen.starts_with(expected), "{seen}");
}

#[test]
fn a_command_keeps_only_capabilities_over_files_and_its_own_processes() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let sets = "grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | tr -s '\n\t' ' '";
    let (_, capabilities) = script(&inside(&debian), sets);
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, linux_immutable,
    // net_bind_service, sys_chroot, setfcap.
    let kept = "00000000800407fb";
    let none = "0000000000000000";
    assert_eq!(
        capabilities,
        format!("CapInh: {none} CapPrm: {kept} CapEff: {kept} CapBnd: {kept} CapAmb: {none} ")
    );
    let privileged = Inside { privileged: true, ..inside(&debian) };
    assert_ne!(script(&privileged, sets).1, capabilities);
}

#[test]
fn sys_admin_is_kept_in_a_subvolume_of_a_btrfs_alone() {
    if !root() {
        return;
    }
    let (_debian, _guard) = debian();
    let disk = Mounted::new(&["mkfs.btrfs", "-q", "-f"], "128M");
    let node = sh(disk.path(), "findmnt -no SOURCE --target .");
    let programs = "for p in /bin/sh /bin/cat; do \
        cp -L --parents $p $(ldd $p | grep -o '/[^ ]*') .; done";
    sh(disk.path(), &format!("{programs}; btrfs -q subvolume create s; cd s; {programs}"));
    let subvolume = tempfile::tempdir().unwrap();
    let mount = format!("mount -o subvol=s {} {}", node.trim(), subvolume.path().display());
    sh(Path::new("/"), &mount);
    let effective = |root: &Path| {
        let (status, text) = script(&inside(root), "cat /proc/self/status");
        assert_eq!(status, 0, "{text}");
        let line = text.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap();
        u64::from_str_radix(line.trim(), 16).unwrap()
    };
    let of_both = (effective(disk.path()), effective(subvolume.path()));
    sh(Path::new("/"), &format!("umount {}", subvolume.path().display()));
    const SYS_ADMIN: u64 = 1 << 21;
    assert_eq!(of_both.0 & SYS_ADMIN, 0, "GRUB's tools do not need it");
    assert_eq!(of_both.1, of_both.0 | SYS_ADMIN, "grub-mkrelpath searches the tree");
}

/// A system call by perl(1), which prints the error if it fails.
fn call(arguments: &str) -> String {
    format!("perl -e 'exit(syscall({arguments}) == -1 ? print \"$!\\n\" : 0)'")
}

#[test]
fn what_reaches_beyond_the_boot_environment_is_refused() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    for (name, arguments) in [
        ("open_tree of /proc", r#"428, -100, my $a = "/proc", 1"#),
        ("move_mount", r#"429, 0, my $a = "", 0, my $b = "/mnt", 4"#),
        ("fsopen", r#"430, my $a = "devtmpfs", 0"#),
        ("setns", "308, 0, 0"),
        ("unshare of the user namespace", "272, 0x10000000"),
        ("bpf", "321, 0, 0, 0"),
        ("perf_event_open", "298, 0, 0, 0, 0, 0"),
        ("ptrace", "101, 0, 0, 0, 0"),
        ("keyctl", "250, 0, -4, 0"),
        ("add_key", r#"248, my $a = "user", my $b = "x", my $c = "y", 1, -4"#),
        ("request_key", r#"249, my $a = "user", my $b = "x", 0, -4"#),
        ("syslog", "103, 3, 0, 0"),
        ("swapoff", r#"168, my $a = "/none""#),
        ("init_module", r#"175, 0, 0, my $a = """#),
        ("open_by_handle_at", "304, -100, 0, 0"),
        ("io_uring_setup", "425, 1, 0"),
        ("TIOCSTI", r#"16, 0, 0x5412, my $a = "x""#),
        ("TIOCLINUX", r#"16, 0, 0x541c, my $a = "x""#),
    ] {
        let (status, text) = script(&inside(&debian), &call(arguments));
        assert!(status != 0 && text == "Operation not permitted\n", "{name}: {status} {text}");
    }
}

#[test]
fn the_kernels_interfaces_are_read_only_or_hidden() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let at = inside(&debian);
    let (_, text) = script(
        &at,
        "for f in /proc/sys/kernel/core_pattern /proc/irq/default_smp_affinity \
        $(ls -d /proc/bus/pci/*/* /proc/mtrr /proc/sysrq-trigger /proc/fs/*/* 2>/dev/null); do \
        [ ! -f $f ] || (: >>$f) 2>/dev/null && [ -f $f ] && echo $f; done; true",
    );
    assert_eq!(text, "", "opened for writing");
    let hidden = "/proc/kcore /proc/keys /proc/timer_list /proc/scsi /proc/acpi /proc/interrupts \
        /sys/firmware/acpi /sys/firmware/dmi";
    let (_, text) = script(
        &at,
        &format!(
            "for f in {hidden}; do [ ! -d $f ] || [ -z \"$(ls -A $f)\" ] || echo $f; \
            [ ! -f $f ] || [ -z \"$(head -c 1 $f)\" ] || echo $f; done"
        ),
    );
    assert_eq!(text, "", "not hidden");
    let (_, text) = script(&at, "umount /proc/sys; mount -o remount,rw /sys; touch /sys/x");
    assert!(!text.is_empty() && !Path::new("/sys/x").exists(), "{text}");
}

#[test]
fn a_command_has_only_a_loopback_interface_unless_it_is_given_the_network() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let at = inside(&debian);
    let interfaces =
        "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '; cat /sys/class/net/lo/flags";
    assert_eq!(script(&at, interfaces), (0, "lo\n0x9\n".into()));
    let namespace = "readlink /proc/self/ns/net";
    let ours = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_ne!(script(&at, namespace).1.trim(), ours);
    let with_network = Inside { network: true, ..at };
    assert_eq!(script(&with_network, namespace).1.trim(), ours);
    // It can use the network, and not change it.
    let (status, text) = script(&with_network, &call("41, 17, 3, 0"));
    assert!(status != 0 && text == "Operation not permitted\n", "packet socket: {text}");
}

#[test]
fn a_command_has_a_control_group_that_goes_with_it() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let (_, groups) = script(&inside(&debian), "grep ^0: /proc/self/cgroup");
    assert_eq!(groups, "0::/\n");
    let ours = fs::read_to_string("/proc/self/cgroup").unwrap();
    let ours = ours.lines().find_map(|line| line.strip_prefix("0::")).unwrap();
    let left = sh(
        Path::new("/"),
        &format!(
            "d=$(mktemp -d); mount -t cgroup2 none $d; ls $d{ours} | grep ^lifeboat- || true; \
            umount $d; rmdir $d"
        ),
    );
    assert_eq!(left, "");
}

#[test]
fn a_command_ends_before_a_service_if_memory_runs_out() {
    let (root, _lock) = debian();
    let own = || fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let before = own();
    let lower = "cat /proc/self/oom_score_adj; echo 0 > /proc/self/oom_score_adj && echo lowered";
    let (_, printed) = script(&inside(&root), lower);
    assert!(printed.starts_with("500\n"), "{printed}");
    assert_eq!(own(), before);
    // A root without CAP_SYS_RESOURCE, as in some containers, sets no lower bound.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
    if u64::from_str_radix(held, 16).unwrap() >> 24 & 1 == 1 {
        assert!(!printed.contains("lowered"), "{printed}");
    }
}

#[test]
fn pid_1_leads_nowhere() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let line = "exec 7</ ; \"$0\" internal-inside --root \"$1\" --parent $$ -- sh -c \"$2\"; true";
    let look = "sleep 0.3; ls /proc/1/fd; for f in fd/0 fd/3 fd/7 root exe cwd; do \
        readlink /proc/1/$f || echo closed; done; head -c 1 /proc/1/mem; ischroot; echo $?";
    let out = Command::new("bash")
        .args(["-c", line, env!("CARGO_BIN_EXE_be")])
        .arg(&debian)
        .arg(look)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    // Packages decide by ischroot(1), for which a sandbox has never been one.
    assert_eq!(text, format!("0\n1\n2\n{}1\n", "closed\n".repeat(6)));
}

#[test]
fn nothing_that_the_caller_had_open_is_open_for_the_command() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let line = "exec 7</ ; \"$0\" internal-inside --root \"$1\" --parent $$ -- \
        ls /proc/self/fd; true";
    let out = Command::new("bash")
        .args(["-c", line, env!("CARGO_BIN_EXE_be")])
        .arg(&debian)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // The fourth one is the directory that ls reads.
    assert_eq!(String::from_utf8_lossy(&out.stdout), "0\n1\n2\n3\n");
}

#[test]
fn a_program_that_prints_without_end_is_killed() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let limits = Limits { output: 1 << 20, time: Duration::from_secs(60), ..Limits::default() };
    let at = Inside { limits, ..inside(&debian) };
    let start = Instant::now();
    for printing in ["exec yes", "exec yes >&2"] {
        let printed = at.capture(&words(&["sh", "-c", printing]));
        assert!(
            matches!(&printed, Err(Error::Tool(ToolError::TooMuchOutput { limit: 1_048_576, .. }))),
            "{printed:?}"
        );
    }
    assert!(start.elapsed() < Duration::from_secs(30));
    let printed = at.capture(&words(&["head", "-c", "1048576", "/dev/zero"])).unwrap();
    assert_eq!(printed.stdout.len(), 1 << 20);
}

#[test]
fn a_program_that_does_not_end_is_killed() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let limits = Limits { time: Duration::from_secs(1), ..Limits::default() };
    let at = Inside { limits, ..inside(&debian) };
    let ended = at.capture(&words(&["sh", "-c", "trap '' INT TERM; sleep 98763"]));
    assert!(matches!(&ended, Err(Error::Tool(ToolError::TooLong { seconds: 1, .. }))), "{ended:?}");
    assert!(gone_soon("98763"));
}

#[test]
fn services_are_not_started_and_the_policy_script_is_removed() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let policy = debian.join("usr/sbin/policy-rc.d");
    let _ = fs::remove_file(&policy);
    assert_eq!(script(&inside(&debian), "policy-rc.d ssh start").0, 101);
    assert!(!policy.exists());
    sh(
        &debian,
        "printf '#!/bin/sh\\nexit 42\\n' >usr/sbin/policy-rc.d; chmod 755 usr/sbin/policy-rc.d",
    );
    assert_eq!(script(&inside(&debian), "policy-rc.d ssh start").0, 101);
    assert_eq!(fs::read_to_string(&policy).unwrap(), "#!/bin/sh\nexit 42\n");
    fs::remove_file(&policy).unwrap();
}

#[test]
fn shared_file_systems_are_read_only_and_the_esp_is_hidden() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let home = Mounted::new(&["mkfs.ext4", "-q", "-F"], "16M");
    home.bind_to(&debian.join("home"));
    fs::create_dir_all(debian.join("boot/efi/EFI")).unwrap();
    let shared = [PathBuf::from("/home")];
    let at = Inside { shared: &shared, ..inside(&debian) };
    let (status, text) =
        script(&at, "ls -d /home/lost+found /boot/efi/*; touch /home/x; mkdir /boot/efi/EFI");
    sh(Path::new("/"), &format!("umount {}", debian.join("home").display()));
    assert!(status != 0 && text.starts_with("/home/lost+found\n"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");
    fs::remove_dir_all(debian.join("boot/efi")).unwrap();
}

#[test]
fn mounted_block_devices_are_visible_by_name_and_uuid() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let disk = Mounted::new(&["mkfs.ext4", "-q", "-F"], "16M");
    let device = sh(disk.path(), "findmnt -no SOURCE --target .");
    let device = PathBuf::from(device.trim());
    let devices = [(device.clone(), Some("11-22".to_owned()))];
    let at = Inside { block_devices: &devices, ..inside(&debian) };
    let look = "readlink /dev/disk/by-uuid/11-22; head -c 2000 /dev/disk/by-uuid/11-22 | wc -c";
    // The word of a descriptor or a fstab alone shows no device.
    assert!(script(&at, look).1.contains("head: cannot open"));
    assert_eq!(script(&at, "find /dev -type b").1, "");
    disk.bind_to(&debian.join("mnt"));
    let seen = script(&at, look).1;
    sh(Path::new("/"), &format!("umount {}", debian.join("mnt").display()));
    assert_eq!(seen, format!("{}\n2000\n", device.display()));
}

#[test]
fn no_device_can_be_written_to_by_root_inside() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let disk = Mounted::new(&["mkfs.ext4", "-q", "-F"], "16M");
    let device = sh(disk.path(), "findmnt -no SOURCE --target .");
    let device = device.trim();
    let devices = [(PathBuf::from(device), None)];
    let at = Inside { block_devices: &devices, ..inside(&debian) };
    disk.bind_to(&debian.join("mnt"));
    let results: Vec<(&str, i32, String)> = [
        "dd if=/dev/zero of=DEVICE bs=512 count=1 conv=notrunc",
        "exec 3<DEVICE; echo x >/proc/self/fd/3",
        "chmod 666 DEVICE; perl -e 'open(F, \"+<\", \"DEVICE\") or die \"$!\\n\"'",
        "mknod /dev/again b $(stat -c '0x%t 0x%T' DEVICE)",
        // BLKROSET, BLKZEROOUT.
        "perl -e 'open(F, \"<\", \"DEVICE\"); ioctl(F, 0x125d, 0) or die \"$!\\n\"'",
        "perl -e 'open(F, \"<\", \"DEVICE\"); \
        ioctl(F, 0x127f, my $r = pack(\"QQ\", 0, 4096)) or die \"$!\\n\"'",
    ]
    .into_iter()
    .map(|what| {
        let (status, text) = script(&at, &what.replace("DEVICE", device));
        (what, status, text)
    })
    .collect();
    sh(Path::new("/"), &format!("umount {}", debian.join("mnt").display()));
    for (what, status, text) in results {
        let refused = ["Operation not permitted", "Bad file descriptor", "Permission denied"];
        assert!(status != 0 && refused.iter().any(|w| text.contains(w)), "{what}: {text}");
    }
    sh(disk.path(), "touch it-is-still-a-file-system; sync -f .");
}

/// Runs a shell script inside as a command of the user on a terminal, and types something when it
/// says that it is ready. Returns what the terminal shows.
fn on_terminal(debian: &Path, typed: &str, script: &str) -> String {
    let size = nix::pty::Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
    let pair = nix::pty::openpty(&size, None).unwrap();
    let stream = || Stdio::from(pair.slave.try_clone().unwrap());
    let line = "\"$0\" internal-inside --root \"$1\" --parent $$ --interactive --foreground -- \
        sh -c \"$2\"; echo \"status $?\"";
    let mut shell = Command::new("setsid")
        .args(["--ctty", "--wait", "sh", "-c", line, env!("CARGO_BIN_EXE_be")])
        .arg(debian)
        .arg(script)
        .stdin(stream())
        .stdout(stream())
        .stderr(stream())
        .spawn()
        .unwrap();
    drop(pair.slave);
    let mut terminal = fs::File::from(pair.master);
    let mut typed = Some(typed);
    let (mut shown, mut buffer) = (String::new(), [0; 4096]);
    // The kernel answers EIO when the last program has closed the terminal.
    while let Ok(length) = terminal.read(&mut buffer) {
        shown += &String::from_utf8_lossy(&buffer[..length]);
        if shown.contains("ready")
            && let Some(typed) = typed.take()
        {
            terminal.write_all(typed.as_bytes()).unwrap();
        }
    }
    shell.wait().unwrap();
    shown
}

#[test]
fn a_users_command_has_a_terminal_of_its_own() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let shown = on_terminal(
        &debian,
        "hello\r",
        "tty; stty size; ls -l /proc/1/fd 2>&1; ls /dev/pts; \
        perl -e 'ioctl(STDIN, 0x5412, my $a = \"x\") or print \"$!\\n\"'; \
        echo ready; read line; echo \"got $line\"; exit 7",
    );
    for expected in [
        "/dev/pts/0\r\n33 99\r\n",
        "Permission denied",
        "0  ptmx\r\n",
        "Operation not permitted\r\n",
        "ready\r\nhello\r\ngot hello\r\n",
        "status 7",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
}

#[test]
fn keys_reach_a_users_command_as_signals() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let shown = on_terminal(
        &debian,
        "\x03",
        "trap 'echo heard; exit 9' INT; echo ready; while :; do sleep 0.1; done",
    );
    assert!(shown.contains("heard\r\n") && shown.contains("status 9"), "{shown}");
}

#[test]
fn a_program_left_in_the_background_does_not_keep_the_terminal() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let shown = on_terminal(&debian, "", "yes & echo ready; sleep 0.1; exit 4");
    assert!(shown.contains("status 4"), "{} bytes", shown.len());
}

/// A partition of a loop device, known only to the kernel: the device has no partition table.
struct Partition {
    disk: String,
    _image: tempfile::NamedTempFile,
}

impl Partition {
    fn new() -> Self {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(16 << 20).unwrap();
        let attach = format!(
            "disk=$(losetup --find --show {}); addpart $disk 1 2048 16384; \
            mke2fs -q -F -t ext4 ${{disk}}p1; echo $disk",
            image.path().display()
        );
        Partition { disk: sh(Path::new("/"), &attach).trim().to_owned(), _image: image }
    }

    fn node(&self) -> PathBuf {
        format!("{}p1", self.disk).into()
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-q", "-l", &format!("{}p1", self.disk)]).status();
        // Another program's scan may have it mounted for a moment. What stays would be a partition
        // of whichever file the loop device is given next.
        for _ in 0..100 {
            let status = Command::new("delpart").args([&self.disk, "1"]).status();
            if status.is_ok_and(|status| status.success()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = Command::new("losetup").args(["--detach", &self.disk]).status();
    }
}

#[test]
fn a_users_command_has_no_access_to_other_disks() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let partition = Partition::new();
    let (disk, node) = (&partition.disk, partition.node());
    let place = debian.join("mnt");
    sh(Path::new("/"), &format!("mount {} {}", node.display(), place.display()));
    let devices = [(node.clone(), None)];
    let ours = Inside { block_devices: &devices, ..inside(&debian) };
    let users = Inside { interactive: true, ..ours };
    let seen = |at: &Inside<'_>| script(at, "find /dev -type b | sort | tr '\\n' ' '").1;
    assert_eq!(seen(&ours), format!("{disk}p1 "), "what Lifeboat runs itself has no disk either");
    assert_eq!(seen(&users), format!("{disk}p1 "));
    let (status, text) = script(&users, &format!("head -c 512 {} | wc -c", node.display()));
    assert_eq!((status, text.as_str()), (0, "512\n"));

    // A node on the file system of the boot environment, and one that is created inside.
    let numbers = sh(Path::new("/"), &format!("stat -c '0x%t 0x%T' {disk}"));
    sh(&debian, &format!("rm -f srv/brought; mknod srv/brought b {numbers}"));
    let made = format!("mknod /dev/made b {}", numbers.trim());
    for what in [
        "head -c 1 /srv/brought",
        &made,
        // mount(2) of a devtmpfs, which has every disk. mount(2) to remount / without nodev.
        // umount2(2).
        &call(r#"165, my $a = "none", my $b = "/mnt", my $c = "devtmpfs", 0, 0"#),
        &call(r#"165, my $a = "none", my $b = "/", 0, 0x1020, 0"#),
        &call(r#"166, my $a = "/proc/sys", 2"#),
    ] {
        let (status, text) = script(&ours, what);
        let is_refused =
            ["Permission denied", "Operation not permitted"].iter().any(|w| text.contains(w));
        assert!(status != 0 && is_refused, "{what}: {status} {text}");
    }
    let privileged = Inside { privileged: true, ..users };
    let (status, text) = script(&privileged, "head -c 1 /srv/brought | wc -c");
    fs::remove_file(debian.join("srv/brought")).unwrap();
    assert_eq!((status, text.as_str()), (0, "1\n"));
    assert_eq!(seen(&privileged), format!("{disk} {disk}p1 "));
}

#[test]
fn host_names_are_resolved_as_in_the_running_system() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let file = debian.join("etc/resolv.conf");
    let kept = fs::read(&file).ok();
    let _ = fs::remove_file(&file);
    symlink("../run/systemd/resolve/stub-resolv.conf", &file).unwrap();
    let (_, text) = script(&inside(&debian), "cat /etc/resolv.conf");
    fs::remove_file(&file).unwrap();
    if let Some(kept) = kept {
        fs::write(&file, kept).unwrap();
    }
    assert_eq!(text, fs::read_to_string("/etc/resolv.conf").unwrap());
}

fn running(marker: &str) -> bool {
    let lines = |entry: fs::DirEntry| fs::read(entry.path().join("cmdline")).unwrap_or_default();
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .any(|entry| lines(entry).split(|b| *b == 0).any(|word| word == marker.as_bytes()))
}

fn gone_soon(marker: &str) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while running(marker) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    !running(marker)
}

#[test]
fn nothing_outlives_the_command() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let (status, _) = script(&inside(&debian), "setsid sleep 98761 >/dev/null 2>&1 & sleep 0.2");
    assert_eq!(status, 0);
    assert!(gone_soon("98761"));
}

#[test]
fn the_command_dies_with_be() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    // A shell takes the place of `be`, and passes its own id as that of the parent.
    let line = "\"$0\" internal-inside --root \"$1\" --parent $$ -- sleep 98762; true";
    let mut parent = Command::new("sh")
        .args(["-c", line, env!("CARGO_BIN_EXE_be")])
        .arg(&debian)
        .spawn()
        .unwrap();
    while !fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        fs::read(entry.path().join("cmdline")).is_ok_and(|line| line == b"sleep\x0098762\0")
    }) {
        std::thread::sleep(Duration::from_millis(20));
    }
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert!(gone_soon("98762"));
}

#[test]
fn a_signal_is_passed_on_to_the_command() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let line = "\"$0\" internal-inside --root \"$1\" --parent $$ -- \
                sh -c 'trap \"echo heard; exit 9\" INT; echo ready; while :; do sleep 0.1; done' & \
                sleep 1.5; kill -INT $!; wait $!; echo $?";
    let out = Command::new("bash")
        .args(["-c", line, env!("CARGO_BIN_EXE_be")])
        .arg(&debian)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&out.stdout), "ready\nheard\n9\n");
}
