//! `be compare`: what differs is found, nothing is written, and `diff -r` and dpkg agree.

use std::path::Path;

use super::{be, copied, refused, root, said};
use crate::loop_device::sh;

const STATUS: &str = "Package: ssh\nStatus: install ok installed\nArchitecture: amd64\n\
    Version: 1:9.2\nConffiles:\n /etc/ssh/sshd_config de2b14ae7499f90736fc4a92327553a5\n\n\
    Package: nginx\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.22\n";

fn json(arguments: &[&str]) -> serde_json::Value {
    let output = be(&[&["compare", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn paths(found: &serde_json::Value, status: &str) -> Vec<String> {
    let files = found["files"].as_array().unwrap().iter();
    let of_status = files.filter(|file| file["status"] == status);
    of_status.map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn two_boot_environments_are_compared_and_not_one_byte_is_written() {
    if !root() {
        return;
    }
    let id = std::process::id();
    let (name, second) = (format!("compared-{id}"), format!("compared-copy-{id}"));
    let status = STATUS.replace('\n', "\\n");
    let (source, target) = copied(
        &name,
        &second,
        &format!(
            "mkdir -p var/lib/dpkg; printf '{status}' >var/lib/dpkg/status; echo default \
            >etc/ssh/sshd_config"
        ),
    );
    target.change(
        "sed -i s/1:9.2/1:9.2+deb12u3/ var/lib/dpkg/status; echo by hand >etc/ssh/sshd_config; rm \
        var/7; mkdir var/new; touch var/new/file; chmod 600 var/9; printf X >var/10; printf 11X \
        >var/11; touch -d 2001-01-01 var/12; printf x >\"var/$(printf '\\033[2J')\"",
    );
    let before = (source.sum(), target.sum());
    let found = json(&[&name, &second, "--content"]);
    assert_eq!((source.sum(), target.sum()), before);

    assert_eq!(found["packages"][0]["name"], "ssh");
    assert_eq!(found["packages"][0]["second"], "1:9.2+deb12u3");
    assert_eq!(found["packages"].as_array().unwrap().len(), 1);
    let change = &found["configuration"][0];
    assert_eq!(change["path"], "/etc/ssh/sshd_config");
    assert_eq!((&change["first"], &change["second"]), (&"as-installed".into(), &"changed".into()));
    assert_eq!(paths(&found, "only-in-first"), ["/var/7"]);
    let added = paths(&found, "only-in-second");
    for path in ["/var/new", "/var/new/file", "/var/\u{1b}[2J"] {
        assert!(added.iter().any(|found| found == path), "{added:?}");
    }
    let changed = paths(&found, "different");
    for path in ["/etc/fstab", "/etc/ssh/sshd_config", "/var/9", "/var/10", "/var/11"] {
        assert!(changed.iter().any(|found| found == path), "{changed:?}");
    }
    assert!(!changed.iter().any(|path| path == "/var/12"), "a time is no difference");
    assert!(!changed.iter().any(|path| path.ends_with("environment.toml")), "{changed:?}");

    // For people: no escape reaches the terminal.
    let output = be(&["compare", &name, &second]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(5), "{text}");
    for line in [
        "* ssh 1:9.2 -> 1:9.2+deb12u3",
        "< /var/7",
        "> /var/new/",
        "* /var/9  mode 0644 -> 0600",
        r"> /var/\u{1b}[2J",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.contains("changed by hand"), "{text}");
    // The lengths of var/10 and its copy differ, so that it needs no --content.
    assert!(text.contains("* /var/10  size 3 -> 1"), "{text}");
    let summary = said(&be(&["compare", &name, &second, "--summary"]));
    assert!(
        !summary.contains("FILES") && summary.contains("Packages that differ: 1."),
        "{summary}"
    );
    let less = said(&be(&["compare", &name, &second, "-x", "/var/*"]));
    assert!(!less.contains("/var/7") && less.contains("/etc/fstab"), "{less}");
}

#[test]
fn directories_are_compared_as_diff_does() {
    if !root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    sh(
        at,
        "mkdir -p one/etc one/sub/deep; seq 100 >one/etc/numbers; touch one/sub/deep/file; cp -a one \
        two; sed -i s/42/43/ two/etc/numbers; rm two/sub/deep/file; echo more >two/sub/more",
    );
    let sides = ["one", "two"].map(|side| at.join(side).to_str().unwrap().to_owned());
    let [one, two] = sides.each_ref().map(String::as_str);
    let found = json(&[one, two, "-c"]);
    let mut ours: Vec<String> = ["only-in-first", "only-in-second", "different"]
        .iter()
        .flat_map(|status| paths(&found, status))
        .collect();
    ours.sort();
    let diff = sh(
        at,
        "diff -rq one two | sed -E 's,^Files one(.*) and .*,\\1,; s,^Only in (one|two)([^:]*): ,\\2/,' \
        | sort; true",
    );
    assert_eq!(ours, diff.lines().collect::<Vec<_>>());

    let same = be(&["compare", one, one, "--content"]);
    assert_eq!(same.status.code(), Some(0), "{}", said(&same));
    assert!(said(&same).contains("do not differ"), "{}", said(&same));
    let numbers = Path::new(one).join("etc/numbers");
    refused(&["compare", one, numbers.to_str().unwrap()], 1, "archive");
    refused(&["compare", one, "/nowhere/at/all"], 1, "/nowhere/at/all");
    refused(&["compare", one, "no-such-environment"], 2, "no-such-environment");
}

#[test]
fn an_archive_may_be_a_side() {
    if !root() {
        return;
    }
    let name = format!("packed-{}", std::process::id());
    let (source, _target) = super::disks(&name);
    let status = STATUS.replace('\n', "\\n");
    source.change(&format!(
        "mkdir -p var/lib/dpkg; printf '{status}' >var/lib/dpkg/status; tar --format=pax --xattrs \
        --numeric-owner --exclude=./lost+found --zstd -cf ../system.tar.zst ."
    ));
    let archive = source.directory.path().join("system.tar.zst");
    let archive = archive.to_str().unwrap();
    let output = be(&["compare", archive, &name, "--content"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    source.change("sed -i s/1:9.2/1:9.3/ var/lib/dpkg/status; rm var/7; echo X >var/9");
    let found = json(&[archive, &name, "--content"]);
    assert_eq!(found["packages"][0]["second"], "1:9.3");
    assert_eq!(paths(&found, "only-in-first"), ["/var/7"]);
    assert_eq!(paths(&found, "different"), ["/var/9", "/var/lib/dpkg/status"]);
    refused(&["compare", archive, "/etc/fstab"], 1, "archive");
}
