//! `be run` is an operation: the BE says that it is incomplete while a command changes it.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Disk, be, copied, refused, root, said};
use crate::loop_device::sh;

/// A copy with a shell, sleep(1) and what they need.
fn with_shell(first: &str, second: &str) -> (Disk, Disk) {
    let programs = "for p in /bin/sh /bin/sleep /bin/touch; do \
        cp -L --parents $p $(ldd $p | grep -o '/[^ ]*') .; done; mkdir -p dev run sys root";
    copied(first, second, programs)
}

fn state(disk: &Disk) -> String {
    disk.change("grep -E '^(state|operation)' etc/lifeboat/environment.toml | tr '\\n' ' '")
}

const COMPLETE: &str = "state = \"complete\" ";
const INCOMPLETE: &str = "state = \"incomplete\" operation = \"run\" ";

/// Starts a command, and waits until it has made the file /began.
fn begun(second: &str, target: &Disk, script: &str) -> Child {
    let run = || {
        Command::new(env!("CARGO_BIN_EXE_be"))
            .args(["run", second, "--", "sh", "-c", &format!("touch /began; {script}")])
            .stdin(Stdio::null())
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
    let (first, second) = (name("whole"), name("half"));
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
    target.change("echo 'UUID=11111111-2222-4333-8444-555555555555 /srv ext4 x 0 2' >>etc/fstab");
    let output = be(&["run", &second, "--", "sh", "-c", "true"]);
    assert!(said(&output).contains("there is no such device"), "{}", said(&output));
    assert_eq!((output.status.code(), state(&target).as_str()), (Some(1), COMPLETE));
}
