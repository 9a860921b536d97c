//! What people's disks look like: devices that only seem to be blank, and sources that cannot be
//! written to.

use super::*;

fn names(kind: &str) -> (String, String) {
    (format!("{kind}-{}", std::process::id()), format!("{kind}-new-{}", std::process::id()))
}

#[test]
fn a_deleted_one_leaves_a_blank_device_until_something_is_written_there() {
    if !root() {
        return;
    }
    let (name, second) = names("blank");
    let (_source, target) = copied(&name, &second, "true");
    done(&["delete", &second, "--yes"]);
    let place = format!("/:{}:ext4", target.node);
    let create = ["create", &second, "--from", &name, "-m", &place, "--no-boot-entry", "--yes"];
    done(&create);
    done(&["delete", &second, "--yes"]);
    let dd = "dd of={} bs=1M seek=128 conv=notrunc status=none".replace("{}", &target.node);
    sh(Path::new("/"), &format!("echo precious | {dd}"));
    refused(&create, 3, "holds unknown data: give --force");
    done(&[&create[..], &["--force"]].concat());
}

#[test]
fn a_disk_whose_first_mebibyte_is_lost_is_not_erased_without_force() {
    if !root() {
        return;
    }
    let (name, second) = names("lost");
    let ((_source, _), target) = (disks(&name), Disk::new(320));
    let place = format!("/:{}:ext4", target.node);
    let create = ["create", &second, "--from", &name, "-m", &place, "--no-boot-entry", "--yes"];
    for script in [
        // A backup GPT, and the ext4 in its partition.
        "sgdisk -n 1:4096:0 {} >/dev/null; mke2fs -qF -t ext4 -E offset=2097152 {} 100M",
        "mke2fs -qF -t ext4 {}",
        "mkfs.xfs -qf {}",
    ] {
        let script =
            script.replace("{}", &target.directory.path().join("image").display().to_string());
        sh(Path::new("/"), &script);
        sh(
            target.directory.path(),
            "dd if=/dev/zero of=image bs=1M count=1 conv=notrunc status=none",
        );
        sh(Path::new("/"), &format!("blockdev --flushbufs {}", target.node));
        let before = target.sum();
        refused(&create, 3, "holds unknown data: give --force");
        assert_eq!(target.sum(), before);
    }
}

#[test]
fn a_journal_on_a_read_only_device_is_refused_before_the_plan() {
    if !root() {
        return;
    }
    let (name, second) = names("sealed");
    let (source, target) = disks(&name);
    sh(source.directory.path(), "cp image sealed; debugfs -w -R 'feature needs_recovery' sealed");
    let node = sh(source.directory.path(), "losetup --find --show --read-only sealed");
    let node = node.trim();
    let place = format!("/:{}:ext4", target.node);
    let from = format!("@{}", node.trim_start_matches("/dev/"));
    let create = || be(&["create", &second, "--from", &from, "-m", &place, "--no-boot-entry"]);
    // A scan that another program's scan disturbs does not find it.
    let is_found = |output: &Output| !said(output).contains("there is no boot environment");
    let output = std::iter::repeat_with(create).take(20).find(is_found).unwrap();
    sh(Path::new("/"), &format!("losetup --detach {node}"));
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains(&format!("{node} was not cleanly unmounted and is read-only")), "{text}");
}
