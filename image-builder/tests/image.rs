//! Builds the real image from real Debian packages, and checks its content and that the build is
//! reproducible. If the cache is empty, the packages are downloaded first.

#![allow(clippy::unwrap_used, reason = "helpers of a test")]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

const MIB: u64 = 1 << 20;

/// The package cache, which `make image` uses too.
fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/packages")
}

/// A static program that consists only of an ELF header.
fn binary(directory: &Path) -> PathBuf {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    header.resize(52, 0);
    header.extend([64, 0, 56, 0, 0, 0, 64, 0, 0, 0, 0, 0]);
    let path = directory.join("binary");
    fs::write(&path, header).unwrap();
    path
}

/// Builds in `directory` after running the shell commands `settings`.
fn build(directory: &Path, settings: &str) -> Value {
    let program = env!("CARGO_BIN_EXE_image-builder");
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join("note"), "added\n").unwrap();
    let script = format!("{settings}; exec \"$@\"");
    let output = Command::new("sh")
        .args([
            "-c",
            &script,
            "sh",
            program,
            "build",
            "--level",
            "3",
            "--json",
            "--output",
            "out",
            "--add",
            "note:/etc/note",
        ])
        .arg("--binary")
        .arg(binary(directory))
        .arg("--cache")
        .arg(cache())
        .env_remove("SOURCE_DATE_EPOCH")
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn hash(path: &Path) -> blake3::Hash {
    blake3::hash(&fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn names(initramfs: &Path) -> BTreeSet<String> {
    let unpacked = zstd::decode_all(fs::File::open(initramfs).unwrap()).unwrap();
    let mut cpio = Command::new("cpio")
        .args(["-t", "--quiet"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = cpio.stdin.take().unwrap();
    std::thread::spawn(move || input.write_all(&unpacked).unwrap());
    let output = cpio.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn two_builds_in_different_environments_are_identical_and_complete() {
    let here = tempfile::tempdir().unwrap();
    let (one, other) = (here.path().join("one"), here.path().join("a longer name/other"));
    let first = build(&one, "umask 022; export TZ=UTC LC_ALL=C");
    let second = build(&other, "umask 077; export TZ=Asia/Kathmandu LC_ALL=tr_TR.UTF-8 HOME=/");
    assert_eq!(first["sizes"], second["sizes"]);
    for name in
        ["lifeboat.efi", "lifeboat.img", "netboot/vmlinuz", "netboot/initramfs", "SHA256SUMS"]
    {
        assert_eq!(
            hash(&one.join("out").join(name)),
            hash(&other.join("out").join(name)),
            "{name}"
        );
    }

    let sums =
        Command::new("sha256sum").args(["-c", "SHA256SUMS"]).current_dir(one.join("out")).output();
    let sums = sums.unwrap();
    assert!(sums.status.success());
    assert_eq!(
        String::from_utf8(sums.stdout).unwrap(),
        "lifeboat.efi: OK\nlifeboat.img: OK\nnetboot/initramfs: OK\nnetboot/vmlinuz: OK\n\
         packages.txt: OK\n"
    );

    let size = |part: &str| first["sizes"][part].as_u64().unwrap();
    assert!(size("efi") < 24 * MIB, "{first:#}");
    assert!(size("initramfs_unpacked") < 45 * 1_000_000, "{first:#}");

    let efi = fs::read(one.join("out/lifeboat.efi")).unwrap();
    let sections = boot::uki::parse(&efi).unwrap();
    assert!(sections.osrel.unwrap().contains("PRETTY_NAME=\"Lifeboat rescue image\""));
    assert_eq!(sections.uname, first["kernel"].as_str());
    assert!(sections.cmdline.unwrap().contains("panic=60"));

    let names = names(&one.join("out/netboot/initramfs"));
    let version = first["kernel"].as_str().unwrap();
    for name in [
        "init",
        "bin/be",
        "bin/sh",
        "bin/busybox",
        "bin/mkfs.ext4",
        "bin/fsck.ext4",
        "bin/mkfs.xfs",
        "bin/xfs_repair",
        "bin/mkfs.btrfs",
        "bin/btrfs",
        "bin/mkfs.vfat",
        "bin/fsck.vfat",
        "dev/console",
        "lib64/ld-linux-x86-64.so.2",
        "lib/x86_64-linux-gnu/libc.so.6",
        "lib/x86_64-linux-gnu/libgcc_s.so.1",
        "lib/x86_64-linux-gnu/libblkid.so.1",
        "etc/lifeboat-packages",
        "etc/note",
        "sbin",
        "proc",
    ] {
        assert!(names.contains(name), "{name}");
    }
    for name in ["dep", "alias", "softdep", "builtin"] {
        assert!(names.contains(&format!("lib/modules/{version}/modules.{name}")), "{name}");
    }
    for name in ["nvme", "ahci", "usb-storage", "virtio_blk", "xfs", "btrfs", "efivarfs"] {
        assert!(names.iter().any(|path| path.ends_with(&format!("/{name}.ko.zst"))), "{name}");
    }
    assert!(!names.contains("etc/nsswitch.conf"));

    let verdict =
        Command::new("sgdisk").arg("-v").arg(one.join("out/lifeboat.img")).output().unwrap();
    let verdict = String::from_utf8_lossy(&verdict.stdout).into_owned();
    assert!(verdict.contains("No problems found"), "{verdict}");
}

#[test]
fn unusable_inputs_are_refused_with_a_reason() {
    let refused = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_image-builder"))
            .args(["build", "--output", "/nonexistent", "--cache"])
            .arg(cache())
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let binary = binary(directory.path());
    let own = binary.to_str().unwrap();
    for (arguments, message) in [
        (&["--binary", "/bin/sh"][..], "/bin/sh is dynamically linked"),
        (&["--binary", "/nonexistent"], "build it or give it with --binary"),
        (&["--binary", own, "--kernel", "/etc/passwd"], "/etc/passwd: not a Linux kernel"),
        (&["--binary", own, "--modules", "/lib/modules/1"], "--modules needs --kernel"),
        (&["--binary", own, "--module", "nonesuch"], "lacks module nonesuch"),
    ] {
        let stderr = refused(arguments);
        assert!(stderr.contains(message), "{arguments:?}: {stderr}");
    }
}
