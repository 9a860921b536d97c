//! `be verify`: what the disk returns is what was written, or is named and put back.

use super::{Disk, be, be_with, copied, differences, done, from_packages, refused, root, said};
use crate::loop_device::sh;

const LIST: &str = "mkdir -p var/lib/dpkg/info; printf 'Package: data\\nStatus: install ok \
    installed\\nVersion: 1\\n' >var/lib/dpkg/status; echo /var/data >var/lib/dpkg/info/data.list; ";

fn names(test: &str) -> (String, String) {
    let id = std::process::id();
    (format!("{test}-{id}"), format!("{test}-copy-{id}"))
}

/// The image with one bit of a file flipped where it lies on the disk, past the file system.
fn flip(disk: &Disk, file: &str, at: u64) {
    disk.sum();
    let script = format!(
        "size=$(dumpe2fs -h image 2>/dev/null | sed -n 's/^Block size: *//p'); block=$(debugfs -R \
        \"bmap /{file} $(({at} / size))\" image 2>/dev/null); python3 -c \"
import os, sys
image = os.open('image', os.O_RDWR)
offset = int(sys.argv[1])
byte = os.pread(image, 1, offset)[0]
os.pwrite(image, bytes([byte ^ 0x10]), offset)
os.fsync(image)\" $((block * size + {at} % size)); blockdev --flushbufs {}",
        disk.node
    );
    sh(disk.directory.path(), &script);
}

fn verified(be_name: &str, more: &[&str]) -> serde_json::Value {
    let output = be(&[&["verify", be_name, "--json"], more].concat());
    assert!(matches!(output.status.code(), Some(0 | 5)), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn paths(found: &serde_json::Value, list: &str) -> Vec<String> {
    let findings = found[list].as_array().unwrap().iter();
    findings.map(|finding| finding["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_flipped_bit_is_found_named_and_put_back() {
    if !root() {
        return;
    }
    let (name, second) = names("flipped");
    let change = format!(
        "{LIST} yes 'the only copy of it' | head -c 9000000 >var/data; chown 7:8 var/data; chmod \
        4751 var/data; setfattr -n user.note -v kept var/data; touch -d 2001-02-03 var/data"
    );
    let (source, target) = copied(&name, &second, &change);
    assert!(done(&["verify", &second]).contains("is as it was when it was last complete"));
    flip(&target, "var/data", 5_000_000);
    flip(&target, "var/9", 0);
    // One file with two names.
    flip(&target, "var/1", 0);
    let before = target.sum();
    let output = be(&["verify", &second]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let text = said(&output);
    for line in ["damaged  /var/9: content", "damaged  /var/data (data): content", "4 damaged"] {
        assert!(text.contains(line), "{text}");
    }
    assert_eq!(target.sum(), before, "it only reads");

    source.change("echo other >var/9");
    let plan = done(&["verify", &second, "--repair-from", &name, "--dry-run"]);
    assert!(plan.contains("put /var/data back from") && plan.contains("/var/9 stays"), "{plan}");
    assert_eq!(target.sum(), before, "it only plans");
    // However far it comes, it can be run again.
    let repair = ["verify", &second, "--repair-from", &name, "--yes"];
    for step in 2..=5 {
        let cut = be_with(&[("LIFEBOAT_FAIL", &format!("before:{step}"))], &repair);
        assert_eq!(cut.status.code(), Some(1), "{}", said(&cut));
    }
    let output = be(&repair);
    assert_eq!(output.status.code(), Some(4), "{}", said(&output));
    source.change("echo 9 >var/9");
    done(&repair);
    assert!(done(&["list", &second]).contains("complete"));
    assert_eq!(paths(&verified(&second, &[]), "damaged"), Vec::<String>::new());
    let left = differences(&source, &target);
    assert!(!left.contains("data\n"), "its attributes are as they were: {left}");
    target.change("test var/1 -ef var/again");
    assert!(done(&repair).contains("No file of"));
}

#[test]
fn what_a_program_wrote_is_not_taken_for_damage_nor_replaced() {
    if !root() {
        return;
    }
    let (name, second) = names("written");
    let (_source, target) = copied(&name, &second, LIST);
    // As after a loss of power: what a journal holds is not in the files yet.
    sh(
        target.directory.path(),
        &format!("debugfs -w -R 'feature needs_recovery' {} 2>/dev/null", target.node),
    );
    for more in [&[][..], &["--repair-from", &name, "--yes"]] {
        refused(&[&["verify", &second], more].concat(), 1, "not shut down cleanly");
    }
    // Mounting it for writing replays it.
    target.change("true");
    done(&["verify", &second]);
    // A command that was interrupted is no repair.
    target.change(
        "sed -i 's/^state.*/state = \"incomplete\"\\noperation = \"run\"/' \
        etc/lifeboat/environment.toml",
    );
    refused(&["verify", &second, "--repair-from", &name, "--yes"], 3, "run");
}

#[test]
fn a_repair_that_fails_for_one_file_leaves_the_boot_environment_complete() {
    if !root() {
        return;
    }
    let (name, second) = names("full");
    let change = format!("{LIST} head -c 20000000 /dev/zero | tr '\\0' x >var/data");
    let (_source, target) = copied(&name, &second, &change);
    target.change("dd if=/dev/zero of=var/fill bs=1M 2>/dev/null || true");
    done(&["verify", "--record", &second]);
    flip(&target, "var/data", 5_000_000);
    flip(&target, "var/9", 0);
    let output = be(&["verify", &second, "--repair-from", &name, "--yes"]);
    let text = said(&output);
    assert!(output.status.code() == Some(4) && text.contains("/var/data stays damaged"), "{text}");
    assert!(done(&["list", &second]).contains("complete"));
    target.change("rm var/fill; test $(cat var/9) = 9");
    done(&["verify", &second, "--repair-from", &name, "--yes"]);
}

/// debsums(1) knows what Debian's packages hold, and finds the same file in the same package.
#[test]
fn debsums_finds_the_damage_that_is_named() {
    if !root() {
        return;
    }
    let name = format!("debsums-{}", std::process::id());
    let disk = from_packages("debian-apt", "", "true", &name, "mkdir -p home");
    done(&["verify", "--record", &name]);
    let debsums = || disk.change("debsums -r . -s 2>&1 || true");
    let before = debsums();
    flip(&disk, "usr/bin/tar", 12_345);
    flip(&disk, "usr/lib/x86_64-linux-gnu/perl-base/strict.pm", 7);
    let judged = debsums();
    let judged: Vec<&str> = judged.lines().filter(|line| !before.contains(line)).collect();
    let output = be(&["verify", &name]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    let found = said(&output);
    let found: Vec<&str> = found.lines().filter(|line| line.starts_with("damaged")).collect();
    assert_eq!((judged.len(), found.len()), (2, 2), "{judged:?} {found:?}");
    for (file, package) in [("/usr/bin/tar", "tar"), ("perl-base/strict.pm", "perl-base")] {
        let line = format!("{file} ({package}): content");
        assert!(found.iter().any(|found| found.contains(&line)), "{found:?}");
        assert!(judged.iter().any(|judged| judged.contains(package)), "{judged:?}");
    }
}

#[test]
fn what_somebody_changed_is_told_from_damage() {
    if !root() {
        return;
    }
    let (name, second) = names("changed");
    let (_source, target) = copied(&name, &second, LIST);
    target.change("echo new >var/1; chmod 600 var/9; rm var/7; mkdir var/more; touch etc/fstab");
    let found = verified(&second, &[]);
    assert_eq!(paths(&found, "damaged"), Vec::<String>::new());
    let changed = ["/var/1", "/var/7", "/var/9", "/var/again", "/var/more"];
    assert_eq!(paths(&found, "changed"), changed);
    let of = |path: &str| {
        found["changed"].as_array().unwrap().iter().find(|f| f["path"] == path).unwrap().clone()
    };
    assert_eq!(of("/var/9")["attributes"], serde_json::json!(["mode"]));
    assert_eq!(of("/var/7")["status"], "missing");
    assert_eq!(of("/var/more")["status"], "added");
    refused(&["verify", &second], 5, "missing  /var/7");
    let text = done(&["verify", &second, "--damage"]);
    assert!(text.contains("0 damaged") && !text.contains("/var/7"), "{text}");
    let text = done(&["verify", &second, "--exclude", "/var/*"]);
    assert!(text.contains("is as it was"), "{text}");
    done(&["verify", &second, "--record"]);
    assert!(done(&["verify", &second]).contains("is as it was"));
}

#[test]
fn every_operation_that_completes_a_boot_environment_records_what_it_left() {
    if !root() {
        return;
    }
    let (name, second) = names("recorded");
    let (source, target) = copied(&name, &second, "touch var/old");
    source.change("rm var/old; echo changed >var/1; ln -s nowhere var/link");
    let is_proved = |after: &str| {
        let text = done(&["verify", &second]);
        assert!(text.contains("is as it was"), "after {after}: {text}");
    };
    done(&["refresh", &second, "--yes"]);
    is_proved("a refresh");
    // A damaged file that the refresh takes for unchanged is still known to be damaged.
    flip(&target, "var/20", 0);
    done(&["refresh", &second, "--yes"]);
    assert_eq!(paths(&verified(&second, &[]), "damaged"), ["/var/20"]);
    done(&["refresh", &second, "--yes", "--checksum"]);
    is_proved("a refresh that reads all");
    let blocks = Disk::new(320);
    let third = format!("{second}-blocks");
    let place = format!("/:{}:ext4", blocks.node);
    let create = ["create", &third, "--from", &second, "-m", &place, "--method", "block"];
    done(&[&create[..], &["--no-boot-entry", "--yes"]].concat());
    assert!(done(&["verify", &third]).contains("is as it was"));
    // Its inodes are those of its source, which has a manifest. Without one, no content is known.
    target.change("rm var/lib/lifeboat/manifest.zst");
    done(&["delete", &third, "--yes"]);
    done(&[&create[..], &["--no-boot-entry", "--yes"]].concat());
    refused(&["verify", &third], 4, "was never recorded");
    flip(&blocks, "var/20", 0);
    refused(&["verify", &third], 4, "is not proved");
    done(&["refresh", &third, "--yes", "--checksum"]);
    done(&["verify", &third, "--record"]);
    done(&["verify", &third]);
}

#[test]
fn without_a_manifest_nothing_is_said_to_be_proved() {
    if !root() {
        return;
    }
    let (name, second) = names("unproved");
    let (_source, target) = copied(&name, &second, "true");
    refused(&["verify", &name], 1, "has no manifest");
    for garbage in ["echo garbage", "head -c 300 var/lib/lifeboat/manifest.zst", "true"] {
        let file = "var/lib/lifeboat/manifest.zst";
        target.change(&format!("{garbage} >x; mv x {file}"));
        refused(&["verify", &second], 1, "--record");
    }
    done(&["verify", &second, "--record"]);
    done(&["verify", &second]);
    target.change("sed -i 's/^state.*/state = \"incomplete\"/' etc/lifeboat/environment.toml");
    refused(&["verify", &second], 3, "incomplete");
    refused(&["verify", &second, "--record"], 3, "incomplete");
    refused(&["verify", &name, "--repair-from", &name], 2, "from itself");
}
