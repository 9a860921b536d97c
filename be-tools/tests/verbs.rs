//! `be create`, `refresh` and `delete` on loop devices: whole verbs, with a source that has no
//! loader.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

#[path = "verbs/boots.rs"]
mod boots;
#[path = "verbs/cancel.rs"]
mod cancel;
#[path = "verbs/compare.rs"]
mod compare;
#[path = "verbs/field.rs"]
mod field;
mod loop_device;
#[path = "verbs/pacman.rs"]
mod pacman;
#[path = "verbs/rpm.rs"]
mod rpm;
#[path = "verbs/run.rs"]
mod run;
#[path = "verbs/steps.rs"]
mod steps;
#[path = "verbs/trust.rs"]
mod trust;
#[path = "verbs/unattended.rs"]
mod unattended;
#[path = "verbs/upgrade.rs"]
mod upgrade;
#[path = "verbs/verify.rs"]
mod verify;

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use loop_device::{is_unused_within, root, sectors_written, sh, wait_until_unused};

/// Runs `be` as soon as no other operation is in its way.
fn be(arguments: &[&str]) -> Output {
    be_with(&[], arguments)
}

/// The same with more in its environment.
fn be_with(variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    for _ in 0..600 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_be"));
        let output = command.envs(variables.iter().copied()).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        // Another test's `be` works, or looks at the source in its own namespace.
        let is_busy =
            ["another operation is in progress", "is in use ("].iter().any(|e| errors.contains(e));
        if output.status.success() || !is_busy {
            return output;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    panic!("the lock is never free");
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn done(arguments: &[&str]) -> String {
    let output = be(arguments);
    assert!(output.status.success(), "be {arguments:?}: {}", said(&output));
    said(&output)
}

fn refused(arguments: &[&str], status: i32, why: &str) {
    let output = be(arguments);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(status), "be {arguments:?}: {text}");
    assert!(text.contains(why), "be {arguments:?}: {text}");
}

/// An image behind a loop device.
struct Disk {
    node: String,
    directory: tempfile::TempDir,
}

impl Disk {
    fn new(mib: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        sh(directory.path(), &format!("truncate -s {mib}M image; mkdir mounted"));
        Disk { node: sh(directory.path(), "losetup --find --show image").trim().into(), directory }
    }

    /// Where [`Disk::change`] mounts it.
    fn place(&self) -> std::path::PathBuf {
        self.directory.path().join("mounted")
    }

    fn short(&self) -> &str {
        self.node.trim_start_matches("/dev/")
    }

    /// Runs a script in the mounted file system.
    fn change(&self, script: &str) -> String {
        let place = self.directory.path().join("mounted");
        // Another test's `be` may be looking at it.
        let mount = format!(
            "for i in $(seq 100); do mount -o noatime {} mounted && break; sleep 0.1; done",
            self.node
        );
        sh(self.directory.path(), &format!("{mount}; mountpoint -q mounted"));
        let printed = std::panic::catch_unwind(|| sh(&place, script));
        sh(self.directory.path(), "umount mounted");
        // A scan by another test's `be` that looks at this mount keeps it for a moment, and then the
        // device cannot be mounted read-only. What else has it, such as a `be run`, keeps it longer.
        let _ = is_unused_within(&self.node, Duration::from_secs(2));
        printed.unwrap()
    }

    fn sum(&self) -> String {
        wait_until_unused(&self.node);
        sh(self.directory.path(), "sync; sha256sum image")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let script = format!("umount -q mounted; losetup --detach {}", self.node);
        let _ =
            Command::new("sh").args(["-c", &script]).current_dir(self.directory.path()).output();
    }
}

/// A system that is a BE, and an empty partition.
fn disks(name: &str) -> (Disk, Disk) {
    let source = Disk::new(64);
    // Another test's source must not have the same one: it would name neither.
    let (uuid, id) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    sh(Path::new("/"), &format!("mke2fs -qF -t ext4 -U {uuid} {}", source.node));
    source.change(&format!(
        "mkdir -p etc/lifeboat etc/ssh usr/lib home proc tmp var/log; printf \
        'ID=debian\\nVERSION_ID=12\\n' >usr/lib/os-release; \
         ln -s ../usr/lib/os-release etc/os-release; echo 'UUID={uuid} / ext4 defaults 0 1' \
         >etc/fstab; echo one >etc/machine-id; \
         for i in $(seq 50); do echo $i >var/$i; done; ln var/1 var/again; \
         printf 'format = 1\\nid = \"{id}\"\\nname = \"{name}\"\\ncreated = \
         \"2026-11-23T06:12:00Z\"\\nstate = \"complete\"\\n' \
         >etc/lifeboat/environment.toml"
    ));
    (source, Disk::new(256))
}

/// A BE on a disk of its own, whose files are a tree that mmdebstrap makes once with these options.
/// `prepared` is run in the tree then, and `settings` on the disk.
fn from_packages(tree: &str, options: &str, prepared: &str, name: &str, settings: &str) -> Disk {
    let tree = Path::new(env!("CARGO_TARGET_TMPDIR")).join(tree);
    if !tree.exists() {
        let making = format!("{}.verbs", tree.display());
        let script = format!(
            "rm -rf {making}; mmdebstrap --quiet --variant=apt {options} bookworm {making} \
            </dev/null; (cd {making}; {prepared}); mv -T {making} {} || rm -rf {making}",
            tree.display()
        );
        sh(Path::new("/"), &script);
    }
    let disk = Disk::new(700);
    let (uuid, id) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    sh(Path::new("/"), &format!("mke2fs -qF -t ext4 -U {uuid} {}", disk.node));
    disk.change(&format!(
        "cp -a {}/. . && mkdir -p etc/lifeboat && {settings} && \
        echo 'UUID={uuid} / ext4 defaults 0 1' >etc/fstab && \
        printf 'format = 1\\nid = \"{id}\"\\nname = \"{name}\"\\ncreated = \
        \"2026-11-23T06:12:00Z\"\\nstate = \"complete\"\\n' >etc/lifeboat/environment.toml",
        tree.display()
    ));
    disk
}

/// As [`disks`] with a change, and with its copy on the other one.
fn copied(name: &str, second: &str, change: &str) -> (Disk, Disk) {
    let (source, target) = disks(name);
    source.change(change);
    let place = format!("/:{}:ext4", target.node);
    done(&["create", second, "--from", name, "-m", &place, "--no-boot-entry", "--yes"]);
    (source, target)
}

/// What of the target is not as in the source, by path.
fn differences(source: &Disk, target: &Disk) -> String {
    let place = source.directory.path().join("mounted");
    sh(source.directory.path(), &format!("mount -o ro,noatime {} mounted", source.node));
    let rsync = format!(
        "rsync -aHAXn --checksum --numeric-ids --delete -i --exclude=/lost+found {}/ ./ | awk \
        '{{print $2}}' | sort",
        place.display()
    );
    let printed = target.change(&rsync);
    sh(source.directory.path(), "umount mounted");
    printed
}

#[test]
fn of_several_copies_the_newest_stay() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, old, new) = (name("pruned"), name("prune-a"), name("prune-b"));
    // Only what could be started counts as kept.
    let init = format!("; mkdir sbin; cp {} sbin/init; ", env!("CARGO_BIN_EXE_be"));
    let initramfs = "echo sbin | cpio --quiet -oH newc >boot/initramfs-6.9.img";
    let whole = boots::entry("/dev/vda1") + &init + initramfs;
    let (_source, target) = copied(&first, &old, &whole);
    let newer = Disk::new(256);
    let place = format!("/:{}:ext4", newer.node);
    done(&["create", &new, "--from", &first, "-m", &place, "--no-boot-entry", "--yes"]);
    target.change("sed -i 's/^created = .*/created = \"2026-11-01T00:00:00Z\"/' etc/lifeboat/environment.toml");
    let pattern = name("prune-?");
    done(&["check", &new]);
    let before = newer.sum();
    let plan = done(&["prune", &pattern, "--keep", "1", "--dry-run"]);
    assert!(plan.contains(&format!("Delete boot environment '{old}'")), "{plan}");
    let text = done(&["prune", &pattern, "--keep", "1", "--yes"]);
    assert!(text.contains(&format!("'{old}' is deleted.")), "{text}");
    assert_eq!(newer.sum(), before);
    let left = done(&["list"]);
    assert!(left.contains(&new) && !left.contains(&old), "{left}");
    let text = done(&["prune", &pattern, "--keep", "1", "--yes"]);
    assert!(text.contains("There is nothing to delete."), "{text}");
}

#[test]
fn the_history_of_each_method_and_of_each_interruption() {
    if !root() {
        return;
    }
    let history = |name: &str| -> Vec<(String, bool, bool)> {
        let text = done(&["history", name, "--json"]);
        let all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let all = all.as_array().unwrap().iter();
        let is_known = |value: &serde_json::Value| !value.is_null();
        all.map(|one| {
            let operation = one["operation"].as_str().unwrap().to_owned();
            (operation, is_known(&one["began"]), is_known(&one["ended"]))
        })
        .collect()
    };
    let one = |operation: &str, ended: bool| (operation.to_owned(), true, ended);
    for method in ["copy", "block"] {
        // The descriptor of a block copy has to fit into the blocks of the source's.
        let first = format!("whose-{method}-has-a-history-{}", std::process::id());
        let second = format!("{}-{}", &method[..1], std::process::id());
        let (source, target) = disks(&first);
        source.change("echo '{\"of\": \"the source\"}' >etc/lifeboat/history.jsonl");
        let place = format!("/:{}:ext4", target.node);
        let create =
            ["create", &second, "--from", &first, "-m", &place, "--no-boot-entry", "--yes"];
        done(&[&create[..], &["--method", method]].concat());
        assert_eq!(history(&second), [one("create", true)], "{method}");
        // An interrupted refresh is there, and so is the one that goes on with it.
        source.change("echo changed >var/7");
        be_with(&[("LIFEBOAT_FAIL", "before:sync")], &["refresh", &second, "--yes"]);
        done(&["refresh", &second, "--yes"]);
        let whole = [one("create", true), one("refresh", false), one("refresh", true)];
        assert_eq!(history(&second), whole, "{method}");
        // A command that does not even begin changes nothing.
        be_with(&[("LIFEBOAT_FAIL", "before:3")], &["run", &second, "--", "true"]);
        let last = history(&second).pop().unwrap();
        assert!(last == one("run", false) || last == one("refresh", true), "{last:?}");
    }
}

#[test]
fn a_copy_is_brought_up_to_date() {
    if !root() {
        return;
    }
    let name = format!("source-{}", std::process::id());
    let second = format!("second-{}", std::process::id());
    let (source, target) = disks(&name);
    let place = format!("/:{}:ext4", target.node);
    let from = format!("@{}", source.short());
    done(&["create", &second, "--from", &from, "-m", &place, "--no-boot-entry", "--yes"]);
    let descriptor = || target.change("grep -v ^completed etc/lifeboat/environment.toml");
    let identity = descriptor();
    let fstab = target.change("cat etc/fstab");

    source.change(
        "echo changed >var/7; rm var/8; mkdir var/new; echo new >var/new/f; chmod 600 \
        var/9; echo '# more' >>etc/fstab",
    );
    target.change(
        "echo mine >var/10; echo gone >var/gone; echo log >var/log/lifeboat-is-copied; \
        mkdir -p var/log/lifeboat; echo k >var/log/lifeboat/kept",
    );
    let before = target.sum();
    let plan = done(&["refresh", &second, "--dry-run"]);
    assert!(plan.contains("Refresh boot environment") && plan.contains(&target.node), "{plan}");
    assert_eq!(target.sum(), before, "a plan writes nothing");

    let text = done(&["refresh", &second, "--yes"]);
    assert!(text.contains("is complete: of "), "{text}");
    // Its own: fstab, descriptor, program and units, and the directories that hold them.
    let own = "etc/fstab\netc/lifeboat/\netc/lifeboat/environment.toml\n";
    let left: String = differences(&source, &target)
        .lines()
        .filter(|line| {
            !line.contains("systemd")
                && !line.contains("lifeboat")
                && *line != "etc/"
                && !line.starts_with("usr/")
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let holds_own = |line: &str| ["var/", "var/lib/", "var/log/"].contains(&line);
    assert!(left.lines().all(|line| own.contains(line) || holds_own(line)), "{left}");
    assert_eq!(descriptor(), identity, "its identity stays");
    let history = done(&["history", &second]);
    let began = |line: &&str| line.contains("  complete after ");
    let seen: Vec<_> =
        history.lines().filter(began).filter_map(|line| line.split("  ").nth(1)).collect();
    assert_eq!(seen, ["create", "refresh"], "{history}");
    assert!(history.contains(&format!("    Refresh boot environment '{second}'")), "{history}");
    assert!(history.contains("    log: /var/log/lifeboat/"), "{history}");
    assert_eq!(target.change("cat etc/fstab"), format!("{fstab}# more\n"));
    assert_eq!(target.change("cat var/10 var/log/lifeboat/kept"), "10\nk\n");
    assert_eq!(target.change("ls var/gone var/8 2>&1 || true").lines().count(), 2);

    let text = done(&["refresh", &second, "--yes"]);
    assert!(text.contains(" 0 were removed"), "its program and units stay: {text}");

    // Interrupted, it is run again; another machine stays another machine.
    target.change(
        "sed -i 's/state = .*/state = \"incomplete\"\\noperation = \"refresh\"/' \
        etc/lifeboat/environment.toml; \
         echo two >etc/machine-id; echo key >etc/ssh/ssh_host_rsa_key; echo x >var/3",
    );
    let text = done(&["refresh", &second, "--yes", "--checksum"]);
    assert!(text.contains("another machine"), "{text}");
    assert_eq!(target.change("cat etc/machine-id etc/ssh/ssh_host_rsa_key var/3"), "two\nkey\n3\n");
    assert_eq!(descriptor(), identity);

    refused(&["refresh", "nobody-has-this-name", "--yes"], 2, "there is no boot environment");
    refused(&["refresh", &second, "--from", &second, "--yes"], 3, "from itself");
    sh(target.directory.path(), &format!("mount {} mounted", target.node));
    refused(&["refresh", &second, "--yes"], 3, "is mounted on");
    sh(target.directory.path(), "umount mounted");
    target.change("sed -i '/^source/d' etc/lifeboat/environment.toml");
    refused(&["refresh", &second, "--yes"], 2, "--from BE");
    target.change(
        "sed -i 's/state = .*/state = \"incomplete\"\\noperation = \"create\"/' \
        etc/lifeboat/environment.toml",
    );
    refused(&["refresh", &second, "--from", &from, "--yes"], 3, "interrupted create");
    target.change("rm etc/lifeboat/environment.toml");
    refused(
        &["refresh", &format!("@{}", target.short()), "--from", &from, "--yes"],
        3,
        "unmanaged",
    );
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    if !root() {
        return;
    }
    let (name, second) =
        (format!("large-{}", std::process::id()), format!("small-{}", std::process::id()));
    let (source, _) = disks(&name);
    let target = Disk::new(48);
    let place = format!("/:{}:ext4", target.node);
    let from = format!("@{}", source.short());
    done(&["create", &second, "--from", &from, "-m", &place, "--no-boot-entry", "--yes"]);
    source.change("head -c 45000000 /dev/urandom >var/large");
    let before = target.sum();
    refused(&["refresh", &second, "--yes"], 3, "too small");
    assert_eq!(target.sum(), before);
    done(&["refresh", &second, "--yes", "--exclude", "/var/large"]);
}

/// Puts other content of the same size and time into a file.
const SECRETLY: &str = "touch -r var/7 stamp; echo X >var/7; touch -r stamp var/7; rm stamp";

#[test]
fn what_was_changed_in_the_copy_is_undone_whatever_its_times_say() {
    if !root() {
        return;
    }
    let (name, second) =
        (format!("true-{}", std::process::id()), format!("false-{}", std::process::id()));
    let (source, target) = copied(&name, &second, "true");
    target.change(SECRETLY);
    done(&["refresh", &second, "--yes"]);
    assert_eq!(target.change("cat var/7"), "7\n");

    // Another source has no claim on what the times say of this one.
    let other = format!("other-{}", std::process::id());
    let (another, _) = disks(&other);
    another.change(&format!("{SECRETLY}; touch -d 2001-01-01 var/7"));
    for disk in [&source, &target] {
        disk.change("touch -d 2001-01-01 var/7");
    }
    done(&["refresh", &second, "--yes"]);
    done(&["refresh", &second, "--from", &other, "--yes"]);
    assert_eq!(target.change("cat var/7"), "X\n");

    // A note in the descriptor of an interrupted refresh does not vouch for what that had written.
    target.change(&format!(
        "sed -i 's/^state = .*/state = \"incomplete\"\\noperation = \"refresh\"\\nbegan = \
        \"2026-11-24T00:00:00Z\"/' \
         etc/lifeboat/environment.toml; {}",
        SECRETLY.replace('X', "0")
    ));
    done(&["describe", &second, "a note"]);
    done(&["refresh", &second, "--from", &other, "--yes"]);
    assert_eq!(target.change("cat var/7"), "X\n");
}

/// What cannot be finished, such as a change by pacman that was killed, is undone.
#[test]
fn a_refresh_undoes_what_another_operation_left_halfway() {
    if !root() {
        return;
    }
    let id = std::process::id();
    let (name, second) = (format!("halfway-{id}"), format!("halfway-copy-{id}"));
    let (source, target) = copied(&name, &second, "true");
    for operation in ["upgrade", "run", "repair"] {
        target.change(&format!(
            "sed -i 's/^state.*/state = \"incomplete\"\\noperation = \"{operation}\"/' \
            etc/lifeboat/environment.toml; {SECRETLY}; rm var/9; echo more >var/more"
        ));
        refused(&["activate", &second, "--yes"], 3, operation);
        done(&["refresh", &second, "--yes"]);
        assert!(done(&["list", &second]).contains("complete"));
        assert_eq!(target.change("cat var/7 var/9; ls var/more 2>/dev/null || true"), "7\n9\n");
    }
    drop(source);
}

#[test]
fn what_is_immutable_is_no_hindrance() {
    if !root() {
        return;
    }
    let (name, second) =
        (format!("hard-{}", std::process::id()), format!("soft-{}", std::process::id()));
    let immutable =
        "mkdir -p usr/lib/lifeboat; chattr +i etc/fstab etc/lifeboat usr/lib usr/lib/lifeboat";
    let (_source, target) = copied(&name, &second, immutable);
    let flags = || target.change("lsattr -d etc/fstab etc/lifeboat usr/lib | cut -c5");
    assert_eq!(flags(), "i\ni\ni\n");
    target.change("chattr +i etc/lifeboat/environment.toml");
    done(&["refresh", &second, "--yes"]);
    assert_eq!(flags(), "i\ni\ni\n");
    done(&["delete", &second, "--yes"]);
}

#[test]
fn a_place_that_is_a_link_is_refused() {
    if !root() {
        return;
    }
    let (name, second) =
        (format!("real-{}", std::process::id()), format!("link-{}", std::process::id()));
    let (source, target) = disks(&name);
    let (opt, spare, outside) = (Disk::new(64), Disk::new(64), tempfile::tempdir().unwrap());
    let uuid = uuid::Uuid::new_v4();
    sh(Path::new("/"), &format!("mke2fs -qF -t ext4 -U {uuid} {}", opt.node));
    opt.change("echo evil >victim");
    std::fs::write(outside.path().join("victim"), "good").unwrap();
    let link = format!("ln -s {} opt; ln -s var srv", outside.path().display());
    source.change(&format!("{link}; echo 'UUID={uuid} /opt ext4 defaults 0 2' >>etc/fstab"));
    let place = format!("/:{}:ext4", target.node);
    let create = ["create", &second, "--from", &name, "-m", &place, "--no-boot-entry", "--yes"];
    let before = target.sum();
    refused(&create, 3, "/opt is a symlink");
    source.change("rm opt; mkdir opt");
    let split = format!("/srv:{}:ext4", spare.node);
    refused(&[&create[..], &["-m", &split]].concat(), 3, "/srv is a symlink");
    assert_eq!(target.sum(), before);
    assert_eq!(std::fs::read(outside.path().join("victim")).unwrap(), b"good");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn an_exclude_with_an_exception_survives_what_is_gone() {
    if !root() {
        return;
    }
    let (name, second) =
        (format!("logs-{}", std::process::id()), format!("few-{}", std::process::id()));
    let logs = "mkdir sub; echo a >sub/a.log; echo k >sub/keep.log; ln -s a.log sub/b.log";
    let (source, target) = copied(&name, &second, logs);
    source.change("rm sub/*.log");
    done(&["refresh", &second, "-x", "**/*.log", "--include", "**/keep.log", "--yes"]);
    assert_eq!(target.change("ls sub"), "a.log\nb.log\n");
}

#[test]
fn an_interrupted_create_of_several_file_systems_is_run_again_or_deleted() {
    if !root() {
        return;
    }
    let (name, second) =
        (format!("whole-{}", std::process::id()), format!("parts-{}", std::process::id()));
    let (source, target) = disks(&name);
    source.change("head -c 40000000 /dev/urandom >var/large");
    let (var, shared) = (Disk::new(256), Disk::new(64));
    let uuid = uuid::Uuid::new_v4();
    sh(Path::new("/"), &format!("mke2fs -qF -t ext4 -U {uuid} {}", shared.node));
    shared.change("echo mine >diary");
    source.change(&format!(
        "mkdir -p backup; echo 'UUID={uuid} /backup ext4 defaults 0 2' >>etc/fstab"
    ));
    let places = [format!("/:{}:ext4", target.node), format!("/var:{}:ext4", var.node)];
    let create = [
        "create",
        &second,
        "--from",
        &name,
        "-m",
        &places[0],
        "-m",
        &places[1],
        "-m",
        "/backup:shared",
    ];
    let create = [&create[..], &["--no-boot-entry", "--yes"]].concat();
    // Ended as soon as the second file system is being filled.
    let before = sectors_written(&var.node);
    let start = || Command::new(env!("CARGO_BIN_EXE_be")).args(&create).spawn().unwrap();
    let (mut child, mut refused) = (start(), 0);
    loop {
        match child.try_wait().unwrap() {
            None if sectors_written(&var.node) > before + 60_000 => child.kill().unwrap(),
            None => {}
            // Another test holds the lock.
            Some(status) if status.code() == Some(3) => {
                refused += 1;
                assert!(refused < 600, "it was refused for minutes");
                std::thread::sleep(Duration::from_millis(500));
                child = start();
            }
            Some(_) => break,
        }
    }
    // The kernel takes a moment to unmount what the killed one had mounted.
    for _ in 0..50 {
        if done(&["list"]).contains(&second) {
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    let plan = done(&["delete", &second, "--dry-run"]);
    assert!(
        plan.contains(&target.node) && plan.contains(&var.node) && !plan.contains(&source.node),
        "{plan}"
    );
    done(&create);
    // Also while the other user of what is shared is away.
    drop(source);
    let plan = done(&["delete", &second, "--dry-run"]);
    assert!(
        plan.contains(&format!("{} is not erased", shared.node)) || !plan.contains(&shared.node),
        "{plan}"
    );
    done(&["delete", &second, "--yes"]);
    assert_eq!(shared.change("cat diary"), "mine\n");
    assert!(!sh(Path::new("/"), &format!("blkid -p {} || true", var.node)).contains("ext4"));
}

#[test]
fn a_full_one_is_deleted() {
    if !root() {
        return;
    }
    let name = format!("full-{}", std::process::id());
    let (source, _) = disks(&name);
    source.change("cat /dev/zero >var/fill 2>/dev/null || true; sync -f .");
    done(&["delete", &name, "--yes"]);
    assert!(!sh(Path::new("/"), &format!("blkid -p {} || true", source.node)).contains("ext4"));
}

/// Its swap space holds its memory, and its journal is as it was when the machine went to sleep.
#[test]
fn a_hibernated_be_is_written_to_by_no_verb() {
    if !root() {
        return;
    }
    let [name, second, third] =
        ["sleeping", "dozing", "third"].map(|name| format!("{name}-{}", std::process::id()));
    let swap = Disk::new(16);
    let uuid = uuid::Uuid::new_v4();
    sh(Path::new("/"), &format!("mkswap -q -U {uuid} {}", swap.node));
    let change = format!("echo UUID={uuid} none swap sw 0 0 >>etc/fstab");
    let (source, target) = copied(&name, &second, &change);
    let sign = |magic: &str| {
        let script =
            format!("printf {magic} | dd of={} bs=1 seek=4086 conv=notrunc,fsync", swap.node);
        sh(Path::new("/"), &format!("{script} status=none"));
    };
    sign("'S1SUSPEND\\0'");
    sh(Path::new("/"), &format!("debugfs -w -R 'feature needs_recovery' {}", source.node));
    let before = [source.sum(), target.sum()];
    let blank = Disk::new(256);
    let place = format!("/:{}:ext4", blank.node);
    let create = ["create", &third, "--from", &name, "-m", &place, "--no-boot-entry", "--yes"];
    for arguments in [
        &create[..],
        &["refresh", &second, "--yes"],
        &["delete", &second, "--yes"],
        &["rename", &second, &third],
        &["describe", &second, "words"],
        &["run", &second, "--", "/bin/true"],
        &["mount", &second],
    ] {
        refused(arguments, 3, "a hibernated system waits in its swap space");
    }
    refused(&["check", &second], 5, &format!("mkswap -U {uuid} {}", swap.node));
    assert_eq!(before, [source.sum(), target.sum()]);
    // Reading changes nothing, so it is not refused.
    let place = done(&["mount", "--read-only", &second]);
    assert!(Path::new(place.trim()).join("etc/fstab").exists());
    done(&["umount", &second]);
    assert_eq!(before, [source.sum(), target.sum()]);
    sign("SWAPSPACE2");
    done(&["describe", &second, "awake"]);
}
