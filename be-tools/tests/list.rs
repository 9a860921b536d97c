//! `be list`, `be mount` and `be umount` on loop devices.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Held by each test that mounts, because two operations refuse to run at the same time.
static OPERATION: Mutex<()> = Mutex::new(());

/// Runs a program that must succeed and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn be(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_be")).args(arguments).output().unwrap()
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: loop devices and mounts need root");
    }
    root
}

/// A loop device with a file system that is made from a directory.
struct Disk {
    node: String,
    directory: tempfile::TempDir,
}

impl Disk {
    fn new(fill: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = directory.path().join("tree");
        std::fs::create_dir(&tree).unwrap();
        fill(&tree);
        let image = directory.path().join("image");
        let text = |path: &Path| path.display().to_string();
        run("mke2fs", &["-qFt", "ext4", "-d", &text(&tree), &text(&image), "32M"]);
        Disk { node: run("losetup", &["--find", "--show", &text(&image)]), directory }
    }

    fn debian(name: &str) -> Self {
        Disk::with_fstab(name, "")
    }

    fn with_fstab(name: &str, fstab: &str) -> Self {
        Disk::new(|tree| {
            for directory in ["etc/lifeboat", "usr/lib", "home"] {
                std::fs::create_dir_all(tree.join(directory)).unwrap();
            }
            std::fs::write(tree.join("etc/fstab"), fstab).unwrap();
            std::fs::write(tree.join("usr/lib/os-release"), "ID=debian\nVERSION_ID=12\n").unwrap();
            std::os::unix::fs::symlink("../usr/lib/os-release", tree.join("etc/os-release"))
                .unwrap();
            let descriptor = format!(
                "format = 1\nid = \"{}\"\nname = \"{name}\"\ncreated = \
                \"2026-11-23T06:12:00Z\"\nstate = \"complete\"\n",
                uuid::Uuid::new_v4()
            );
            std::fs::write(tree.join("etc/lifeboat/environment.toml"), descriptor).unwrap();
        })
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    fn sum(&self) -> String {
        run("sha256sum", &[self.image().to_str().unwrap()])
    }

    /// Sets the flag that the journal must be replayed, as after a power cut.
    fn make_dirty(&self) {
        run("debugfs", &["-w", "-R", "feature +needs_recovery", &self.node]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["--quiet", &self.node]).output();
        let _ = Command::new("losetup").args(["--detach", &self.node]).output();
    }
}

fn listed(node: &str) -> Vec<serde_json::Value> {
    let output = be(&["list", "--json"]);
    let all: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)));
    let is_ours = |e: &&serde_json::Value| e["root"]["device"] == node;
    all["environments"].as_array().unwrap().iter().filter(is_ours).cloned().collect()
}

#[test]
fn listing_changes_no_byte_of_a_dirty_disk() {
    if !is_root() {
        return;
    }
    let disk = Disk::debian("dirty-one");
    disk.make_dirty();
    let before = disk.sum();
    let found = listed(&disk.node);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["descriptor"]["name"], "dirty-one");
    assert_eq!(found[0]["os"]["version_id"], "12");
    let output = be(&["check", "DIRTY-ONE"]);
    assert_eq!(output.status.code(), Some(5), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("no kernel"));
    assert_eq!(disk.sum(), before);
}

#[test]
fn a_be_is_mounted_until_it_is_unmounted() {
    if !is_root() {
        return;
    }
    let _operation = OPERATION.lock().unwrap_or_else(PoisonError::into_inner);
    let disk = Disk::debian("mounted-one");
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().to_str().unwrap();
    let output = be(&["mount", "mounted-one", dir]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(Path::new(dir).join("etc/os-release").exists());
    std::fs::write(Path::new(dir).join("etc/new"), "x").unwrap();
    assert!(options_at(dir).contains("nosuid,nodev"), "{}", options_at(dir));
    assert_eq!(listed(&disk.node)[0]["mounted_at"][0], dir);
    // Mounting it again is refused, with the directory where it is mounted.
    let again = be(&["mount", "mounted-one"]);
    assert_eq!(again.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&again.stderr).contains(dir));
    assert!(be(&["umount", dir]).status.success());
    assert_eq!(listed(&disk.node)[0]["mounted_at"].as_array().unwrap().len(), 0);
    assert_eq!(be(&["umount", "mounted-one"]).status.code(), Some(2));
    assert_eq!(be(&["umount", "/home"]).status.code(), Some(2));

    let before = disk.sum();
    let output = be(&["mount", "--read-only", "mounted-one"]);
    let place = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    assert_eq!(place, Path::new("/run/lifeboat/mnt/mounted-one"));
    assert!(place.join("etc/new").exists() && std::fs::write(place.join("etc/other"), "").is_err());
    // Nobody but root gets to it.
    for directory in ["/run/lifeboat", "/run/lifeboat/mnt"] {
        assert_eq!(std::fs::metadata(directory).unwrap().permissions().mode() & 0o777, 0o700);
    }
    assert!(be(&["umount", "mounted-one"]).status.success());
    assert!(!place.exists());
    assert_eq!(disk.sum(), before);

    assert!(be(&["mount", "--suid", "mounted-one", dir]).status.success());
    assert!(!options_at(dir).contains("nosuid"), "{}", options_at(dir));
    assert!(be(&["umount", dir]).status.success());
    assert_eq!(be(&["mount", "--suid", "--read-only", "mounted-one"]).status.code(), Some(2));
}

/// The options of the mount on a directory.
fn options_at(dir: &str) -> String {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(dir));
    line.and_then(|line| line.split(' ').nth(5)).unwrap_or_default().to_owned()
}

#[test]
fn a_mount_that_fails_leaves_nothing_and_nothing_is_mounted_on_the_root() {
    if !is_root() {
        return;
    }
    let _operation = OPERATION.lock().unwrap_or_else(PoisonError::into_inner);
    let other = Disk::debian("other-one");
    // Nothing can be mounted on a file.
    let line = format!("{} /etc/fstab ext4 defaults 0 2\n", other.node);
    let disk = Disk::with_fstab("broken-one", &line);
    let output = be(&["mount", "broken-one"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!Path::new("/run/lifeboat/mnt/broken-one").exists());
    assert_eq!(listed(&disk.node)[0]["mounted_at"].as_array().unwrap().len(), 0);
    let output = be(&["mount", "broken-one", "/"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn an_unknown_name_is_told_from_an_ambiguous_one() {
    if !is_root() {
        return;
    }
    let (_a, _b) = (Disk::debian("twin"), Disk::debian("Twin"));
    let output = be(&["check", "twin"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).contains("twin@loop"));
    let output = be(&["check", "no-such-one"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("twin@loop"));
}

#[test]
fn an_error_that_cannot_be_printed_is_not_a_panic() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = Command::new(env!("CARGO_BIN_EXE_be"))
        .args(["check", "no-such-one"])
        .stderr(writer)
        .status();
    let expected = if rustix::process::geteuid().is_root() { 2 } else { 3 };
    assert_eq!(status.unwrap().code(), Some(expected));
}

#[test]
fn thirty_two_roots_are_listed_in_a_second() {
    if !is_root() {
        return;
    }
    let disks: Vec<Disk> = (0..32).map(|n| Disk::debian(&format!("speed-{n}"))).collect();
    let start = Instant::now();
    let output = be(&["list"]);
    let took = start.elapsed();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!((0..32).all(|n| text.contains(&format!("speed-{n} "))), "{text}");
    drop(disks);
    // It takes 0.15 s alone. Other tests run at the same time.
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_child_that_reads_foreign_disks_has_little_memory() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_be"))
        .arg("internal-scan")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let limits = || std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    let is_limited = |limits: String| {
        let line = limits.lines().find(|line| line.starts_with("Max address space")).unwrap();
        line.split_whitespace().nth(3) == Some("536870912")
    };
    let start = Instant::now();
    while !is_limited(limits()) {
        assert!(start.elapsed() < Duration::from_secs(10), "{}", limits());
        std::thread::sleep(Duration::from_millis(20));
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}
