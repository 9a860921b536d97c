//! `be run` is an operation: the BE says that it is incomplete while a command changes it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Disk, be, copied, refused, root, said};
use crate::loop_device::sh;

/// A copy with a shell, sleep(1) and what they need.
pub(super) fn with_shell(first: &str, second: &str) -> (Disk, Disk) {
    let programs = "for p in /bin/sh /bin/sleep /bin/touch /bin/stty; do \
        cp -L --parents $p $(ldd $p | grep -o '/[^ ]*') .; done; mkdir -p dev run sys root";
    copied(first, second, programs)
}

pub(super) fn state(disk: &Disk) -> String {
    disk.change("grep -E '^(state|operation)' etc/lifeboat/environment.toml | tr '\\n' ' '")
}

const COMPLETE: &str = "state = \"complete\" ";
const INCOMPLETE: &str = "state = \"incomplete\" operation = \"run\" ";

/// Starts a command, and waits until it has made the file /began.
pub(super) fn begun(second: &str, target: &Disk, script: &str) -> Child {
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_be"))
            .args(["run", second, "--", "sh", "-c", &format!("touch /began; {script}")])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut child = run();
    for _ in 0..600 {
        std::thread::sleep(Duration::from_millis(100));
        if target.change("ls").contains("began") {
            return child;
        }
        // Another test's `be` has the lock.
        if child.try_wait().unwrap().is_some() {
            child = run();
        }
    }
    let _ = child.kill();
    panic!("the command does not begin");
}

#[test]
fn a_boot_environment_is_incomplete_while_a_command_changes_it_and_complete_after_it() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("at-rest"), name("changing"));
    let (_source, target) = with_shell(&first, &second);
    let completed = || target.change("grep ^completed etc/lifeboat/environment.toml");
    let before = completed();

    let mut child = begun(&second, &target, "while [ ! -e /go ]; do sleep 0.1; done; exit 7");
    assert_eq!(state(&target), INCOMPLETE);
    // A trial can be confirmed meanwhile, whatever is confirmed here.
    let confirmed = Command::new(env!("CARGO_BIN_EXE_be")).args(["confirm", "--dry-run"]).output();
    assert!(!said(&confirmed.unwrap()).contains("in progress"));
    target.change("touch go");
    assert_eq!(child.wait().unwrap().code(), Some(7), "the status of the command");
    assert_eq!(state(&target), COMPLETE, "it ended by itself");
    assert_eq!(completed(), before, "a refresh must look at what the command has changed");

    let output = be(&["run", &second, "--", "no-such-program"]);
    assert_eq!((output.status.code(), state(&target).as_str()), (Some(127), COMPLETE));
}

#[test]
fn a_command_that_was_killed_leaves_the_boot_environment_incomplete_until_one_ends() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("unbroken"), name("half"));
    let (_source, target) = with_shell(&first, &second);
    let mut child = begun(&second, &target, "sleep 1000");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(state(&target), INCOMPLETE);
    refused(&["activate", &second, "--yes"], 3, "interrupted run");
    let output = be(&["run", &second, "--", "sh", "-c", "exit 0"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(state(&target), COMPLETE);
    target.change("rm began");

    // What is killed is the sandbox, with the command in it.
    let child = begun(&second, &target, "sleep 1000");
    let sandbox = sh(Path::new("/"), &format!("pgrep -P {}", child.id()));
    sh(Path::new("/"), &format!("kill -KILL $(pgrep -P {})", sandbox.trim()));
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), state(&target).as_str()), (Some(1), INCOMPLETE));
}

#[test]
fn what_keeps_a_command_from_starting_leaves_the_boot_environment_complete() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("started"), name("not-started"));
    let (_source, target) = with_shell(&first, &second);
    target.change("echo 'UUID=11111111-2222-4333-8444-555555555555 /var ext4 x 0 2' >>etc/fstab");
    let output = be(&["run", &second, "--", "sh", "-c", "true"]);
    assert!(said(&output).contains("there is no such device"), "{}", said(&output));
    assert_eq!((output.status.code(), state(&target).as_str()), (Some(1), COMPLETE));
}

#[test]
fn a_boot_environment_stays_incomplete_if_the_connection_is_lost_in_the_middle() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("connected"), name("cut-off"));
    let (_source, target) = with_shell(&first, &second);
    for (signal, trap, status, expected) in [
        ("HUP", "sleep 1000", 130, INCOMPLETE),
        ("TERM", "sleep 1000", 130, INCOMPLETE),
        // The command goes on, and ends well.
        ("HUP", "trap '' HUP TERM; while [ ! -e /go ]; do sleep 0.1; done", 0, COMPLETE),
    ] {
        let mut child = begun(&second, &target, trap);
        sh(Path::new("/"), &format!("kill -{signal} {}", child.id()));
        std::thread::sleep(Duration::from_millis(500));
        target.change("touch go");
        let ended = child.wait().unwrap();
        assert_eq!((ended.code(), state(&target).as_str()), (Some(status), expected), "{signal}");
        target.change("rm began go");
    }
}

#[test]
fn a_device_that_only_the_descriptor_names_is_not_there_and_privileges_are_announced() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("honest"), name("greedy"));
    let (_source, target) = with_shell(&first, &second);
    let victim = Disk::new(16);
    let uuid = uuid::Uuid::new_v4();
    sh(Path::new("/"), &format!("mke2fs -qF -t ext4 -U {uuid} {}", victim.node));
    target.change(&format!(
        "sed -i 's/^made = .*/made = [\"{uuid}\"]/' etc/lifeboat/environment.toml; \
        grep -q {uuid} etc/lifeboat/environment.toml"
    ));
    let list = ["sh", "-c", "echo /dev/loop*"];
    for (privileged, announced) in [(None, false), (Some("--privileged"), true)] {
        let mut arguments = vec!["run"];
        arguments.extend(privileged);
        arguments.extend([second.as_str(), "--"]);
        let output = be(&[&arguments[..], &list].concat());
        let seen = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(seen.trim(), target.node, "{}", said(&output));
        let text = said(&output);
        assert_eq!(text.contains("--privileged: the command can change"), announced, "{text}");
    }
}

#[test]
fn the_users_terminal_is_as_it_was_after_a_command() {
    if !root() {
        return;
    }
    let name = |what: &str| format!("{what}-{}", std::process::id());
    let (first, second) = (name("raw"), name("cooked"));
    let (_source, target) = with_shell(&first, &second);
    let pair = nix::pty::openpty(None, None).unwrap();
    let settings = || nix::sys::termios::tcgetattr(&pair.slave).unwrap();
    let before = settings();
    // The command changes its own terminal, and is killed with its sandbox.
    let script = "stty raw -echo; touch /began; sleep 1000";
    let be = env!("CARGO_BIN_EXE_be");
    let stream = || Stdio::from(pair.slave.try_clone().unwrap());
    let mut running = false;
    for _ in 0..600 {
        let mut shell = Command::new("setsid")
            .args(["--ctty", "--wait", be, "run", &second, "--", "sh", "-c", script])
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        while shell.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(200));
            if target.change("ls").contains("began") {
                running = true;
                assert_ne!(settings(), before, "raw, so that the command gets every key");
                let be = sh(Path::new("/"), &format!("pgrep -P {}", shell.id()));
                let helper = sh(Path::new("/"), &format!("pgrep -P {}", be.trim()));
                sh(Path::new("/"), &format!("kill -KILL $(pgrep -P {})", helper.trim()));
                shell.wait().unwrap();
            }
        }
        if running {
            break;
        }
        // Another test's `be` has the lock.
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(running);
    assert_eq!(settings(), before);
}
