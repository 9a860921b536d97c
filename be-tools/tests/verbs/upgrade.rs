//! `be upgrade` in a real Debian, with a repository of small packages on its own disk.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use super::{Disk, be, be_with, done, from_packages, refused, root, said};
use crate::loop_device::sh;

/// A Debian with apt that is a BE, on a disk of its own. Its sources are a repository in
/// /srv/debian, which has no packages yet.
fn debian(name: &str) -> Disk {
    let sources = "mkdir -p srv/debian home/user && \
        rm -rf etc/apt/sources.list etc/apt/sources.list.d/* && \
        echo 'deb [trusted=yes] file:/srv/debian ./' >etc/apt/sources.list && : >srv/debian/Packages";
    from_packages("debian-apt", "", "true", name, sources)
}

/// A package to be built.
#[derive(Clone, Copy, Default)]
struct Package {
    name: &'static str,
    version: &'static str,
    /// More fields of its control file, a line each.
    fields: &'static str,
    /// Its script that is run after it was unpacked.
    postinst: &'static str,
    /// The text of its configuration file.
    configuration: &'static str,
}

/// Adds a package to the repository of a BE.
fn publish(disk: &Disk, package: Package) {
    let Package { name, version, fields, postinst, configuration } = package;
    let script = if postinst.is_empty() {
        String::new()
    } else {
        format!(
            "printf '%s\\n' '#!/bin/sh' 'set -e' '{postinst}' >P/DEBIAN/postinst; \
            chmod 755 P/DEBIAN/postinst; "
        )
    };
    let file = if configuration.is_empty() {
        String::new()
    } else {
        format!(
            "mkdir -p P/etc; echo '{configuration}' >P/etc/{name}.conf; \
            echo /etc/{name}.conf >P/DEBIAN/conffiles; "
        )
    };
    disk.change(&format!(
        "cd srv/debian; mkdir -p P/DEBIAN P/usr/share/doc/{name}; echo {version} >P/usr/share/doc/{name}/v; \
        printf 'Package: {name}\\nVersion: {version}\\nArchitecture: all\\nMaintainer: x <x@y>\\n\
        Description: x\\n{fields}' >P/DEBIAN/control; {script}{file}\
        d={name}_{version}_all.deb; dpkg-deb --root-owner-group -Zgzip --build P $d >&2; rm -rf P; \
        {{ dpkg-deb -f $d; echo \"Filename: ./$d\"; echo \"Size: $(stat -c %s $d)\"; \
        echo \"SHA256: $(sha256sum $d | cut -d' ' -f1)\"; echo; }} >>Packages"
    ));
}

fn state(disk: &Disk) -> String {
    disk.change("grep -E '^(state|operation)' etc/lifeboat/environment.toml | tr '\\n' ' '")
}

fn version(disk: &Disk, package: &str) -> String {
    disk.change(&format!("cat usr/share/doc/{package}/v 2>/dev/null || true")).trim().to_owned()
}

fn name(what: &str) -> String {
    format!("{what}-{}", std::process::id())
}

fn status(output: &Output) -> Option<i32> {
    output.status.code()
}

const COMPLETE: &str = "state = \"complete\" ";
const INCOMPLETE: &str = "state = \"incomplete\" operation = \"upgrade\" ";

#[test]
fn packages_are_installed_upgraded_and_removed_as_the_plan_says_and_changed_files_stay() {
    if !root() {
        return;
    }
    let next = name("next");
    let disk = debian(&next);
    let tool = Package {
        name: "tool",
        version: "1",
        configuration: "one",
        // A script whose output is closed fails here.
        postinst: "echo tool is configured; echo and says so >&2",
        ..Package::default()
    };
    publish(&disk, tool);
    publish(&disk, Package { name: "helper", version: "7", ..Package::default() });

    let before = disk.sum();
    let plan = done(&["upgrade", &next, "--install", "tool", "helper", "--dry-run"]);
    assert!(plan.contains("Packages: 2 new") && plan.contains("new       helper  7"), "{plan}");
    assert_eq!(disk.sum(), before, "a plan writes nothing");
    let json = done(&["upgrade", &next, "--install", "tool", "--dry-run", "--json", "--quiet"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["packages"]["changes"][0]["to"], "1", "{json}");

    let text = done(&["upgrade", &next, "--install", "tool", "helper", "--yes"]);
    assert!(text.contains(&format!("'{next}' is complete: 2 new.")), "{text}");
    assert_eq!((version(&disk, "tool").as_str(), state(&disk).as_str()), ("1", COMPLETE));
    // The oracle: dpkg, and what apt has written itself.
    let listed = format!("dpkg --root={} -l tool helper | grep -c ^ii", disk.place().display());
    assert_eq!(disk.change(&listed).trim(), "2");
    assert!(disk.change("cat var/log/apt/history.log").contains("Install: helper:amd64 (7)"));

    // A newer version, whose configuration file was changed by hand too.
    disk.change("echo mine >etc/tool.conf");
    publish(&disk, Package { version: "2", configuration: "two", ..tool });
    let text = done(&["upgrade", &next, "--dist", "--yes"]);
    assert!(
        text.contains("upgraded  tool  1 -> 2") && text.contains("kept: /etc/tool.conf"),
        "{text}"
    );
    assert_eq!(disk.change("cat etc/tool.conf etc/tool.conf.dpkg-dist"), "mine\ntwo\n");
    publish(&disk, Package { version: "3", configuration: "three", ..tool });
    let text = done(&["upgrade", &next, "--dist", "--conffiles", "new", "--yes"]);
    assert!(text.contains("replaced: /etc/tool.conf"), "{text}");
    assert_eq!(disk.change("cat etc/tool.conf etc/tool.conf.dpkg-old"), "three\nmine\n");

    let before = disk.sum();
    let text = done(&["upgrade", &next, "--dist", "--yes"]);
    assert!(text.contains("no package changes"), "{text}");
    assert_eq!(disk.sum(), before, "nothing to do is nothing written");

    let text = done(&["upgrade", &next, "--remove", "helper", "--yes"]);
    assert!(text.contains("removed   helper  7"), "{text}");
    assert_eq!(version(&disk, "helper"), "");
    let output = be(&["upgrade", &next, "--install", "no-such-package", "--yes"]);
    assert!(
        said(&output).contains("Unable to locate package no-such-package"),
        "{}",
        said(&output)
    );
    assert_eq!((status(&output), state(&disk).as_str()), (Some(1), COMPLETE), "{}", said(&output));
}

#[test]
fn a_package_file_of_the_running_system_is_installed_and_anything_else_is_refused() {
    if !root() {
        return;
    }
    let next = name("handed-in");
    let disk = debian(&next);
    publish(&disk, Package { name: "lib", version: "1", ..Package::default() });
    publish(
        &disk,
        Package { name: "tool", version: "1", fields: "Depends: lib\n", ..Package::default() },
    );
    let outside = tempfile::tempdir().unwrap();
    disk.change(&format!(
        "mv srv/debian/tool_1_all.deb {0}/; cp -a usr/bin/true {0}/true.deb",
        outside.path().display()
    ));
    let file = outside.path().join("tool_1_all.deb").display().to_string();
    let text = done(&["upgrade", &next, "--package", &file, "--yes"]);
    assert!(text.contains("2 new"), "{text}");
    assert_eq!((version(&disk, "tool"), version(&disk, "lib")), ("1".into(), "1".into()));
    let file = outside.path().join("true.deb").display().to_string();
    refused(&["upgrade", &next, "--package", &file, "--yes"], 2, "is not a Debian package");
    refused(&["upgrade", &next, "--release", "trixie", "--yes"], 2, "none of its package sources");
}

#[test]
fn a_package_that_is_being_installed_is_finished_although_the_upgrade_is_interrupted() {
    if !root() {
        return;
    }
    let next = name("unhurried");
    let disk = debian(&next);
    // Longer than anything else that is interrupted may take to end.
    let slow = Package {
        name: "slow",
        version: "1",
        postinst: "touch /begun; sleep 25; touch /finished",
        ..Package::default()
    };
    publish(&disk, slow);
    let begin = || {
        Command::new(env!("CARGO_BIN_EXE_be"))
            .args(["upgrade", &next, "--install", "slow", "--yes", "--unattended"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut upgrade = begin();
    for attempt in 0.. {
        std::thread::sleep(Duration::from_millis(500));
        if disk.change("ls").contains("begun") {
            break;
        }
        // Something else has the disk open.
        if upgrade.try_wait().unwrap().is_some() {
            assert!(attempt < 600, "the upgrade does not begin");
            upgrade = begin();
        }
    }
    sh(Path::new("/"), &format!("kill -TERM {}", upgrade.id()));
    let output = upgrade.wait_with_output().unwrap();
    assert_eq!(status(&output), Some(130), "{}", said(&output));
    assert_eq!(disk.change("ls finished").trim(), "finished", "{}", said(&output));
    assert_eq!(state(&disk), INCOMPLETE);
    done(&["upgrade", &next, "--install", "slow", "--yes"]);
    assert_eq!(state(&disk), COMPLETE);
}

#[test]
fn an_upgrade_that_fails_leaves_the_boot_environment_incomplete_and_goes_on_when_run_again() {
    if !root() {
        return;
    }
    let next = name("failing");
    let disk = debian(&next);
    publish(&disk, Package { name: "good", version: "1", ..Package::default() });
    let bad = Package {
        name: "bad",
        version: "1",
        postinst: "echo it hurts; test -e /etc/mended",
        ..Package::default()
    };
    publish(&disk, bad);
    let install = ["upgrade", &next, "--install", "good", "bad", "--yes"];
    let output = be(&install);
    let text = said(&output);
    assert_eq!(status(&output), Some(1), "{text}");
    assert!(
        text.contains("apt-get failed in") && text.contains("repeat the `be upgrade`"),
        "{text}"
    );
    assert_eq!(state(&disk), INCOMPLETE);
    refused(&["activate", &next, "--yes"], 3, "interrupted upgrade");

    // A command can be run meanwhile, but only an upgrade says that the packages are whole.
    let output = be(&["run", &next, "--", "touch", "/etc/mended"]);
    assert!(said(&output).contains("stays incomplete"), "{}", said(&output));
    assert_eq!(state(&disk), INCOMPLETE);
    let text = done(&install);
    assert!(text.contains("configure what an interrupted change has unpacked"), "{text}");
    assert_eq!((version(&disk, "bad").as_str(), state(&disk).as_str()), ("1", COMPLETE));
    let audit = disk.change(&format!("dpkg --root={} --audit", disk.place().display()));
    assert_eq!(audit, "");
}

#[test]
fn packages_that_an_interrupted_upgrade_left_half_installed_are_whole_before_it_is_complete() {
    if !root() {
        return;
    }
    let next = name("half-done");
    let disk = debian(&next);
    publish(&disk, Package { name: "lib", version: "1", ..Package::default() });
    let app = Package { name: "app", version: "1", fields: "Depends: lib\n", ..Package::default() };
    publish(&disk, app);
    // What a power cut leaves in the middle of dpkg: unpacked, and what it needs is missing.
    disk.change(&format!(
        "dpkg --root={} --unpack srv/debian/app_1_all.deb >&2; \
        sed -i 's/^state = .*/state = \"incomplete\"\\noperation = \"upgrade\"/' \
        etc/lifeboat/environment.toml",
        disk.place().display()
    ));
    assert_eq!(state(&disk), INCOMPLETE);
    // There is no security fix, and still something to do.
    let text = done(&["upgrade", &next, "--security", "--yes"]);
    assert!(text.contains("check that every package is whole"), "{text}");
    assert_eq!((version(&disk, "lib").as_str(), state(&disk).as_str()), ("1", COMPLETE));
    let audit = disk.change(&format!("dpkg --root={} --audit", disk.place().display()));
    assert_eq!(audit, "");
}

#[test]
fn an_upgrade_that_is_cut_before_any_step_can_be_run_again() {
    if !root() {
        return;
    }
    let next = name("cut");
    let disk = debian(&next);
    publish(&disk, Package { name: "tool", version: "1", ..Package::default() });
    let upgrade = ["upgrade", &next, "--install", "tool", "--yes"];
    // 1 mark, 2 mount, 3 lists, 4 download, 5 install, 6 check, 7 unmount, 8 complete.
    for (step, is_begun) in
        [(1, false), (2, false), (3, false), (5, true), (6, true), (7, true), (8, true)]
    {
        let point = format!("before:{step}");
        let output = be_with(&[("LIFEBOAT_FAIL", &point)], &upgrade);
        assert_eq!(status(&output), Some(1), "{}", said(&output));
        let expected = if is_begun { INCOMPLETE } else { COMPLETE };
        assert_eq!(state(&disk), expected, "before step {step}: {}", said(&output));
        if !is_begun {
            continue;
        }
        // Twice, and this time as by a power cut.
        let output = be_with(&[("LIFEBOAT_FAIL", "kill-before:configure")], &upgrade);
        assert!(!output.status.success(), "{}", said(&output));
        assert_eq!(state(&disk), INCOMPLETE);
        done(&upgrade);
        assert_eq!((version(&disk, "tool").as_str(), state(&disk).as_str()), ("1", COMPLETE));
        done(&["upgrade", &next, "--remove", "tool", "--yes"]);
    }
}

#[test]
fn what_the_scripts_of_packages_may_not_do_is_in_the_report() {
    if !root() {
        return;
    }
    let next = name("nosy");
    let disk = debian(&next);
    let home = Disk::new(16);
    let uuid = uuid::Uuid::new_v4();
    sh(Path::new("/"), &format!("mke2fs -qF -t ext4 -U {uuid} {}", home.node));
    home.change("mkdir user; echo precious >user/file");
    disk.change(&format!(
        "echo 'UUID={uuid} /home ext4 defaults 0 2' >>etc/fstab; \
        echo 'shared = [\"/home\"]' >>etc/lifeboat/environment.toml"
    ));
    let nosy = Package {
        name: "nosy",
        version: "1",
        postinst: "rm -rf /home/user || true; echo x >/home/new || true; \
            mknod /root/disk b 8 0 || true; echo 1 >/proc/sys/kernel/printk_delay || true; \
            date -s 2001-01-01 || true; invoke-rc.d cron restart || true; \
            dd if=/dev/zero of=/dev/sda count=1 || true",
        ..Package::default()
    };
    publish(&disk, nosy);
    let before = home.sum();
    let output = be(&["upgrade", &next, "--install", "nosy", "--yes"]);
    let text = said(&output);
    assert_eq!(status(&output), Some(4), "there is a report to read: {text}");
    for expected in ["nosy: ", "/home", "mknod", "printk_delay: Read-only file system", "date"] {
        let is_named = text.lines().any(|l| l.starts_with("refused: ") && l.contains(expected));
        assert!(is_named, "{expected}: {text}");
    }
    assert_eq!(home.sum(), before, "a shared file system is not written to");

    publish(&disk, Package { version: "2", postinst: "echo x >/home/new", ..nosy });
    refused(
        &["upgrade", &next, "--dist", "--yes", "--writable", "/srv"],
        2,
        "no file system on /srv",
    );
    done(&["upgrade", &next, "--dist", "--yes", "--writable", "/home"]);
    assert_eq!(home.change("cat new user/file"), "x\nprecious\n");
}

#[test]
fn a_copy_is_made_and_upgraded_behind_one_plan() {
    if !root() {
        return;
    }
    let (first, next) = (name("first"), name("upgraded"));
    let source = debian(&first);
    let tool = Package { name: "tool", version: "1", ..Package::default() };
    publish(&source, tool);
    done(&["upgrade", &first, "--install", "tool", "--yes"]);
    publish(&source, Package { version: "2", ..tool });
    let target = Disk::new(900);
    let place = format!("/:{}:ext4", target.node);
    let create = ["create", &next, "--from", &first, "-m", &place, "--no-boot-entry", "--upgrade"];

    let before = (source.sum(), target.sum());
    let plan = done(&[&create[..], &["--dry-run"]].concat());
    assert!(plan.contains("upgraded  tool  1 -> 2"), "{plan}");
    assert_eq!((source.sum(), target.sum()), before, "a plan writes nothing");
    let numbered = |text: &str| -> Vec<String> {
        let is_step = |line: &&str| {
            line.trim().split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok())
        };
        text.lines().filter(is_step).map(|line| line.trim().to_owned()).collect()
    };
    let planned = numbered(&plan);
    assert!(planned.iter().any(|line| line.contains("mark") && line.contains("(upgrade)")));

    let text = done(&[&create[..], &["--yes"]].concat());
    // The plan is shown, then each of its lines as it begins.
    assert_eq!(numbered(&text), [&planned[..], &planned[..]].concat(), "{text}");
    assert!(text.contains(&format!("'{next}' is complete: 1 upgraded.")), "{text}");
    assert_eq!((version(&target, "tool").as_str(), state(&target).as_str()), ("2", COMPLETE));
    assert_eq!(version(&source, "tool"), "1");
    // What was upgraded is only in the copy.
    refused(&["refresh", &next, "--yes", "--unattended"], 3, "has run or was changed since");

    // One that fails is gone on with by the verb of its part.
    publish(&source, Package { version: "3", postinst: "exit 1", ..tool });
    done(&["delete", &next, "--yes"]);
    let failed = be(&[&create[..], &["--yes"]].concat());
    assert_eq!(status(&failed), Some(1), "{}", said(&failed));
    assert_eq!(state(&target), INCOMPLETE);
    target.change("cd srv/debian && rm Packages *_3_all.deb && : >Packages");
    publish(&target, Package { version: "4", ..tool });
    done(&["upgrade", &next, "--dist", "--yes"]);
    assert_eq!((version(&target, "tool").as_str(), state(&target).as_str()), ("4", COMPLETE));
}
