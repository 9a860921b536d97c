//! Nothing is written but what was confirmed: no word on a disk chooses what is erased or filled.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Disk, be, copied, disks, done, refused, root, said};
use crate::loop_device::sh;

const CUSTOMERS: &str = "mkdir -p db; echo all of them >db/customers";

/// A disk with files that are nowhere else.
fn data() -> Disk {
    let disk = Disk::new(32);
    sh(Path::new("/"), &format!("mke2fs -qF -t ext4 {}", disk.node));
    disk.change(CUSTOMERS);
    disk
}

fn uuid_of(disk: &Disk) -> String {
    sh(Path::new("/"), &format!("blkid -p -o value -s UUID {}", disk.node)).trim().into()
}

fn is_whole(disk: &Disk) {
    assert_eq!(disk.change("cat db/customers"), "all of them\n");
}

/// Names for a test's BEs, which no other test has.
fn names(test: &str) -> (String, String) {
    let id = std::process::id();
    (format!("{test}-{id}"), format!("{test}-copy-{id}"))
}

#[test]
fn a_data_disk_in_the_fstab_of_the_target_is_neither_filled_nor_pruned() {
    if !root() {
        return;
    }
    let (name, second) = names("data");
    let (source, target) = copied(&name, &second, "mkdir srv");
    let disk = data();
    let line = format!("UUID={} /srv ext4 defaults 0 2", uuid_of(&disk));
    target.change(&format!("echo '{line}' >>etc/fstab"));
    let text = done(&["refresh", &second, "--yes"]);
    assert!(text.contains("/srv of ") && text.contains("stays as it is"), "{text}");
    is_whole(&disk);
    assert_eq!(target.change("tail -n 1 etc/fstab").trim(), line);
    // Where the source has files for it, the user says what becomes of it.
    source.change("echo new >srv/file");
    let before = (target.sum(), disk.sum());
    refused(&["refresh", &second, "--yes"], 3, "--take-over /srv");
    assert_eq!((target.sum(), disk.sum()), before);
    done(&["refresh", &second, "--yes", "--keep", "/srv"]);
    is_whole(&disk);
    let text = done(&["refresh", &second, "--yes"]);
    assert!(text.contains("is complete"), "it is asked once: {text}");
    is_whole(&disk);
    assert_eq!(target.change("ls srv"), "", "and nothing is hidden below it");
}

#[test]
fn what_is_taken_over_is_marked_and_filled_from_then_on() {
    if !root() {
        return;
    }
    for (kind, mkfs) in [("ext4", "mke2fs -qF -t ext4"), ("xfs", "mkfs.xfs -qf")] {
        let (name, second) = names(&format!("taken-{kind}"));
        let (_source, target) = copied(&name, &second, "mkdir -p srv; echo new >srv/file");
        let disk = Disk::new(320);
        sh(Path::new("/"), &format!("{mkfs} {}", disk.node));
        let line = format!("UUID={} /srv {kind} defaults 0 2", uuid_of(&disk));
        target.change(&format!("echo '{line}' >>etc/fstab"));
        refused(&["refresh", &second, "--yes"], 3, "--take-over /srv");
        let again = ["refresh", &second, "--yes", "--take-over", "/srv"];
        // However far it comes, it can be run again.
        for step in 2..=5 {
            let point = format!("before:{step}");
            super::be_with(&[("LIFEBOAT_FAIL", &point)], &again);
        }
        done(&again);
        assert_eq!(disk.change("cat file"), "new\n");
        let id = target.change("sed -n 's/^id = \"\\(.*\\)\"/\\1/p' etc/lifeboat/environment.toml");
        let program = format!("import uuid; print(uuid.uuid5(uuid.UUID('{}'), '/srv'))", id.trim());
        let marked = sh(Path::new("/"), &format!("python3 -c \"{program}\""));
        assert_eq!(uuid_of(&disk), marked.trim());
        disk.change("echo mine >file");
        done(&["refresh", &second, "--yes"]);
        assert_eq!(disk.change("cat file"), "new\n");
        done(&["delete", &second, "--yes"]);
        assert_eq!(sh(Path::new("/"), &format!("blkid -p {} || true", disk.node)), "");
    }
}

#[test]
fn the_descriptor_of_a_foreign_disk_erases_and_replaces_nothing_else() {
    if !root() {
        return;
    }
    let (name, second) = names("claims");
    let (source, target) = copied(&name, &second, ":");
    let disk = data();
    let uuid = uuid_of(&disk);
    target.change(&format!("echo 'UUID={uuid} /srv ext4 defaults 0 2' >>etc/fstab"));
    target.change(&format!(
        "sed -i 's|^made = .*|made = [\"/\", \"/srv\", \"{uuid}\"]|' etc/lifeboat/environment.toml"
    ));
    let from = format!("@{}", source.short());
    let replacing = ["create", "claimed", "--replace", &second, "--from", &from, "--no-boot-entry"];
    let before = target.sum();
    refused(&[&replacing[..], &["--yes"]].concat(), 1, "/srv of ");
    assert_eq!(target.sum(), before);
    is_whole(&disk);
    let text = done(&["delete", &second, "--yes"]);
    assert!(text.contains("is not erased"), "{text}");
    is_whole(&disk);
}

#[test]
fn a_strangers_interrupted_create_is_not_taken_up_by_its_name() {
    if !root() {
        return;
    }
    let (name, stranger) = names("strange");
    let (source, stick) = copied(&name, &stranger, ":");
    let disk = data();
    let uuid = uuid_of(&disk);
    stick.change(&format!(
        "echo 'UUID={uuid} /srv ext4 defaults 0 2' >>etc/fstab; sed -i 's|^state = .*|state = \
        \"incomplete\"\\noperation = \"create\"|; s|^made = .*|made = [\"/\", \"{uuid}\"]|' \
        etc/lifeboat/environment.toml"
    ));
    let from = format!("@{}", source.short());
    let create = ["create", &stranger, "--from", &from, "--no-boot-entry", "--yes"];
    let before = stick.sum();
    refused(&create, 3, "--replace");
    let place = format!("/:{}:ext4", disk.node);
    refused(&[&create[..], &["-m", &place]].concat(), 3, "--replace");
    assert_eq!(stick.sum(), before);
    is_whole(&disk);
    // The user who names its device gets it.
    let place = format!("/:{}:ext4", stick.node);
    done(&[&create[..], &["-m", &place]].concat());
    is_whole(&disk);
}

#[test]
fn the_fstab_of_another_disk_does_not_change_what_is_filled() {
    if !root() {
        return;
    }
    let (name, second) = names("own");
    let (source, target) = disks(&name);
    let var = Disk::new(256);
    let places = [format!("/:{}:ext4", target.node), format!("/var:{}:ext4", var.node)];
    let create = ["create", &second, "--from", &name, "--no-boot-entry", "--yes", "-m"];
    done(&[&create[..], &[&places[0], "-m", &places[1]]].concat());
    // A copy that was interrupted has the fstab of the second one.
    let third = Disk::new(256);
    let place = format!("/:{}:ext4", third.node);
    let unfinished = format!("{second}-third");
    let mut line = create.to_vec();
    line[1] = &unfinished;
    line.push(&place);
    super::be_with(&[("LIFEBOAT_FAIL", "before:localize")], &line);
    third.change(&format!("echo 'UUID={} /var ext4 defaults 0 2' >>etc/fstab", uuid_of(&var)));
    let fstab = target.change("cat etc/fstab");
    source.change("echo changed >var/7");
    done(&["refresh", &second, "--yes"]);
    assert_eq!(target.change("cat etc/fstab"), fstab);
    assert_eq!(var.change("cat 7"), "changed\n");
    assert_eq!(target.change("ls var"), "");
}

#[test]
fn nothing_is_erased_unless_every_device_of_the_plan_is_free() {
    if !root() {
        return;
    }
    let (name, second) = names("busy");
    let (_source, target) = disks(&name);
    let var = data();
    let before = target.sum();
    // Mounted where only a look at the device itself shows it.
    let place = tempfile::tempdir().unwrap();
    let script = format!("mount {} {}; echo; cat", var.node, place.path().display());
    let mut container = Command::new("unshare")
        .args(["--mount", "sh", "-ec", &script])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    container.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let (first, second_place) =
        (format!("/:{}:ext4", target.node), format!("/var:{}:ext4", var.node));
    let output = be(&[
        "create",
        &second,
        "--from",
        &name,
        "--no-boot-entry",
        "--yes",
        "--force",
        "-m",
        &first,
        "-m",
        &second_place,
    ]);
    drop(container.stdin.take());
    container.wait().unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains(&format!("{} is in use", var.node)), "{text}");
    assert_eq!(target.sum(), before);
    is_whole(&var);
}

/// Answers the question of `be` on a terminal with yes, after `meanwhile`. Returns the exit status
/// and what was shown.
fn answered(arguments: &[&str], meanwhile: impl FnOnce()) -> (Option<i32>, String) {
    let line = format!("{} {}", env!("CARGO_BIN_EXE_be"), arguments.join(" "));
    let begun = Instant::now();
    let (mut terminal, mut output, mut shown) = loop {
        let mut terminal = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut shown, mut output) = (Vec::new(), terminal.stdout.take().unwrap());
        let mut byte = [0];
        while !String::from_utf8_lossy(&shown).contains("[y/N]")
            && output.read(&mut byte).unwrap() == 1
        {
            shown.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&shown).into_owned();
        if text.contains("[y/N]") {
            break (terminal, output, shown);
        }
        terminal.wait().unwrap();
        // Another test's `be` has the lock.
        assert!(text.contains("another operation is in progress"), "{text}");
        assert!(begun.elapsed() < Duration::from_secs(300), "the lock is never free");
        std::thread::sleep(Duration::from_millis(500));
    };
    meanwhile();
    terminal.stdin.as_mut().unwrap().write_all(b"y\n").unwrap();
    output.read_to_end(&mut shown).unwrap();
    let status = terminal.wait().unwrap().code();
    (status, String::from_utf8_lossy(&shown).into_owned())
}

#[test]
fn what_changed_while_the_question_was_read_is_not_written_to() {
    if !root() {
        return;
    }
    let (name, second) = names("asked");
    let (source, target) = copied(&name, &second, ":");
    let exchange = || {
        sh(Path::new("/"), &format!("mke2fs -qF -t ext4 {}", target.node));
        target.change(CUSTOMERS);
    };
    for arguments in [vec!["delete", &*second], vec!["refresh", &*second]] {
        let kept = sh(target.directory.path(), "cp --sparse=always image kept");
        assert_eq!(kept, "");
        let (status, shown) = answered(&arguments, exchange);
        assert_eq!(status, Some(3), "{arguments:?}: {shown}");
        assert!(shown.contains("is not as it was in the plan"), "{shown}");
        is_whole(&target);
        sh(target.directory.path(), &format!("dd if=kept of={} bs=1M status=none", target.node));
    }
    let (status, shown) = answered(&["delete", &second], || {});
    assert_eq!(status, Some(0), "{shown}");
    let place = format!("/:{}:ext4", target.node);
    let from = format!("@{}", source.short());
    let create = ["create", &second, "--from", &from, "--no-boot-entry", "-m", &place];
    let (status, shown) = answered(&create, exchange);
    assert_eq!(status, Some(3), "{shown}");
    is_whole(&target);
}

#[test]
fn a_refresh_of_a_copy_with_the_same_id_is_refused() {
    if !root() {
        return;
    }
    let (name, second) = names("twin");
    let (_source, target) = copied(&name, &second, ":");
    let twin = Disk::new(256);
    sh(
        Path::new("/"),
        &format!(
            "dd if={} of={} bs=1M status=none; for i in $(seq 100); do e2fsck -fp {} >/dev/null && \
            tune2fs -U random {} && exit; sleep 0.1; done; exit 1",
            target.node, twin.node, twin.node, twin.node
        ),
    );
    let before = (target.sum(), twin.sum());
    let reference = format!("{second}@{}", twin.short());
    refused(&["refresh", &reference, "--yes"], 3, "have the same id");
    refused(&["describe", &reference, "x", "--yes"], 3, "have the same id");
    refused(&["rename", &reference, "other-name", "--yes"], 3, "have the same id");
    assert_eq!((target.sum(), twin.sum()), before);
}

#[test]
fn a_command_in_a_be_cannot_write_to_a_disk_that_only_its_fstab_names() {
    if !root() {
        return;
    }
    let (name, second) = names("fstab");
    let (_source, target) = copied(&name, &second, "mkdir -p srv");
    let disk = data();
    let line = format!("UUID={} /srv ext4 defaults 0 2", uuid_of(&disk));
    target.change(&format!("echo '{line}' >>etc/fstab"));
    // What mkfs wrote may wait while another program has the device open.
    sh(Path::new("/"), &format!("blockdev --flushbufs {}", disk.node));
    let before = crate::loop_device::sectors_written(&disk.node);
    let output = be(&["run", &second, "--", "/bin/true"]);
    let text = said(&output);
    assert!(text.contains("/srv is mounted read-only"), "{text}");
    // Nor does a mount of the whole BE, which says so once.
    let text = said(&be(&["mount", &second]));
    assert_eq!(text.matches("/srv is mounted read-only").count(), 1, "{text}");
    done(&["umount", &second]);
    assert_eq!(crate::loop_device::sectors_written(&disk.node), before);
    let text = said(&be(&["run", "--writable", "/srv", &second, "--", "/bin/true"]));
    assert!(!text.contains("read-only"), "{text}");
}

#[test]
fn what_is_kept_once_is_kept_whatever_the_source_has_there() {
    if !root() {
        return;
    }
    let (name, second) = names("kept");
    let (_source, target) = copied(&name, &second, ":");
    let disk = data();
    let line = format!("UUID={} /var ext4 defaults 0 2", uuid_of(&disk));
    target.change(&format!("echo '{line}' >>etc/fstab"));
    // The source has /var in its root.
    refused(&["refresh", &second, "--yes"], 3, "--keep /var");
    done(&["refresh", &second, "--yes", "--keep", "/var"]);
    for _ in 0..2 {
        done(&["refresh", &second, "--yes"]);
        assert_eq!(target.change("tail -n 1 etc/fstab").trim(), line);
        is_whole(&disk);
    }
}

#[test]
fn the_fstab_of_a_third_disk_does_not_turn_a_refusal_into_a_refresh() {
    if !root() {
        return;
    }
    let (name, second) = names("third");
    let (_source, target) = copied(&name, &second, ":");
    let (disk, (third, _)) = (data(), disks(&format!("{name}-visitor")));
    let uuid = uuid_of(&disk);
    target.change(&format!("echo 'UUID={uuid} /var ext4 defaults 0 2' >>etc/fstab"));
    third.change(&format!("echo 'UUID={uuid} /mnt/old ext4 defaults 0 2' >>etc/fstab"));
    let before = target.sum();
    refused(&["refresh", &second, "--yes"], 3, "--keep /var");
    assert_eq!(target.sum(), before);
}

#[test]
fn a_replacement_that_is_cut_before_any_step_is_run_again() {
    if !root() {
        return;
    }
    let (name, second) = names("again");
    let (_source, target) = disks(&name);
    let (var, swap) = (Disk::new(256), Disk::new(16));
    let places = [
        format!("/:{}:ext4", target.node),
        format!("/var:{}:ext4", var.node),
        format!("-:{}:swap", swap.node),
    ];
    let create = ["create", &second, "--from", &name, "--no-boot-entry", "--yes"];
    done(&[&create[..], &["-m", &places[0], "-m", &places[1], "-m", &places[2]]].concat());
    let again = [&create[..], &["--replace", &second]].concat();
    for step in 2..=6 {
        let point = format!("before:{step}");
        super::be_with(&[("LIFEBOAT_FAIL", &point)], &again);
        super::be_with(&[("LIFEBOAT_FAIL", &point)], &again);
        done(&again);
        assert_eq!(var.change("cat 50"), "50\n", "before step {step}");
        let fstab = target.change("cat etc/fstab");
        assert!(fstab.contains(&uuid_of(&var)) && fstab.contains(&uuid_of(&swap)), "{fstab}");
    }
    done(&["delete", &second, "--yes"]);
    for disk in [&target, &var, &swap] {
        assert_eq!(sh(Path::new("/"), &format!("blkid -p {} || true", disk.node)), "");
    }
}
