//! Runs commands inside a real Debian, which is made from packages.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a test")]

mod loop_device;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use be_tools::sandbox::{Inside, use_program};
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
    Inside {
        root,
        block_devices: &[],
        esp: None,
        shared: &[],
        privileged: false,
        interactive: false,
    }
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
    let (_, mounts) =
        script(&at, "cut -d' ' -f5 /proc/self/mountinfo | grep -v sysrq | sort -u | tr '\\n' ' '");
    assert_eq!(mounts, "/ /dev /dev/pts /dev/shm /proc /proc/sys /run /sys /tmp ");
    let (_, seen) = script(
        &at,
        "ls /dev | tr '\\n' ' '; ls -A /tmp | wc -l; ls /run; ls /proc | grep -c '^[0-9]*$'",
    );
    let expected =
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero 0\nlifeboat\nlock\n";
    assert!(seen.starts_with(expected), "{seen}");
    let (_, capabilities) = script(&at, "grep CapBnd /proc/self/status");
    let (_, all) = script(&Inside { privileged: true, ..at }, "grep CapBnd /proc/self/status");
    assert_ne!(capabilities, all);
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
fn shared_file_systems_are_read_only_and_the_esp_is_hidden_unless_given() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let home = Mounted::new(&["mkfs.ext4", "-q", "-F"], "16M");
    home.bind_to(&debian.join("home"));
    let esp = tempfile::tempdir().unwrap();
    fs::create_dir_all(esp.path().join("EFI")).unwrap();
    fs::create_dir_all(debian.join("boot/efi/EFI")).unwrap();
    let shared = [PathBuf::from("/home")];
    let at = Inside { shared: &shared, ..inside(&debian) };
    let (status, text) =
        script(&at, "ls -d /home/lost+found /boot/efi/*; touch /home/x; mkdir /boot/efi/EFI");
    sh(Path::new("/"), &format!("umount {}", debian.join("home").display()));
    assert!(status != 0 && text.starts_with("/home/lost+found\n"), "{text}");
    assert_eq!(text.matches("Read-only file system").count(), 2, "{text}");

    let at = Inside { esp: Some(esp.path()), ..inside(&debian) };
    assert_eq!(script(&at, "ls /boot/efi; mkdir /boot/efi/EFI/lifeboat"), (0, "EFI\n".into()));
    assert!(esp.path().join("EFI/lifeboat").is_dir());
    fs::remove_dir_all(debian.join("boot/efi")).unwrap();
}

#[test]
fn block_devices_are_visible_by_name_and_uuid() {
    if !root() {
        return;
    }
    let (debian, _guard) = debian();
    let disk = Mounted::new(&["mkfs.ext4", "-q", "-F"], "16M");
    let device = sh(disk.path(), "findmnt -no SOURCE --target .");
    let device = PathBuf::from(device.trim());
    let devices = [(device.clone(), Some("11-22".to_owned()))];
    let at = Inside { block_devices: &devices, ..inside(&debian) };
    let (_, seen) = script(
        &at,
        "readlink /dev/disk/by-uuid/11-22; head -c 2000 /dev/disk/by-uuid/11-22 | wc -c",
    );
    assert_eq!(seen, format!("{}\n2000\n", device.display()));
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
            "disk=$(losetup --find --show {}); addpart $disk 1 2048 8192; echo $disk",
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
        let _ = Command::new("delpart").args([&self.disk, "1"]).status();
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
    let devices = [(node.clone(), None)];
    let ours = Inside { block_devices: &devices, ..inside(&debian) };
    let users = Inside { interactive: true, ..ours };
    let seen = |at: &Inside<'_>| script(at, "find /dev -type b | sort | tr '\\n' ' '").1;
    assert_eq!(seen(&ours), format!("{disk} {disk}p1 "));
    assert_eq!(seen(&users), format!("{disk}p1 "));
    let (status, text) = script(&users, &format!("head -c 512 {} | wc -c", node.display()));
    assert_eq!((status, text.as_str()), (0, "512\n"));

    // A node on the file system of the boot environment, and one that is created inside.
    let numbers = sh(Path::new("/"), &format!("stat -c '0x%t 0x%T' {disk}"));
    sh(&debian, &format!("rm -f srv/brought; mknod srv/brought b {numbers}"));
    let call = |arguments: &str| {
        format!("perl -e 'exit(syscall({arguments}) == 0 ? 0 : print \"$!\\n\")'")
    };
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
